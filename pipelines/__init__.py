"""Flows: what runs when and where. Only DVC knows what is stale and how it is made."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import warnings

import patchdm  # noqa: F401 - it tells MKL how to compute, for the flow and its children
from pipelines.errors import say_once

# Prefect reads the user's settings at import, here before any of the modules needs it. Its report
# of wrong settings has many lines; `pipelines.api` reports a home that cannot be created.
_said = io.StringIO()
try:
    with contextlib.redirect_stderr(_said), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Failed to create the Prefect home")
        import prefect.context  # noqa: F401
except Exception as error:  # noqa: BLE001 - of pydantic, of TOML, of the disk
    text = " ".join(str(error).partition("For further information")[0].split())
    sys.exit(f"error: Prefect's settings (PREFECT_..., prefect.toml or a profile): {text}")
sys.stderr.write(_said.getvalue())
for name in ("prefect.flow_runs", "prefect.task_runs"):
    logging.getLogger(name).addFilter(say_once)
