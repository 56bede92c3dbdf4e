"""Flows: what runs when and where. What is stale, and how it is made, only DVC knows."""

from __future__ import annotations

import contextlib
import io
import sys
import warnings

import patchdm  # noqa: F401 - it tells MKL how to compute, for the flow and its children

# Prefect reads the user's settings as it is imported, here before any of the modules needs it.
# What it says of wrong ones is many lines; of a home that it cannot make, `pipelines.api` speaks.
_said = io.StringIO()
try:
    with contextlib.redirect_stderr(_said), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Failed to create the Prefect home")
        import prefect.context  # noqa: F401
except Exception as error:  # noqa: BLE001 - of pydantic, of TOML, of the disk
    text = " ".join(str(error).partition("For further information")[0].split())
    sys.exit(f"error: Prefect's settings (PREFECT_..., prefect.toml or a profile): {text}")
sys.stderr.write(_said.getvalue())
