"""What dvc.yaml declares of a stage: its parameters, its code, its outputs.

A stage keys its progress by them and compares them at its end, so that it knows neither more nor
less than DVC does.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from patchdm.config import Params
from patchdm.files import sha256

ROOT = Path(__file__).resolve().parents[1]
"""Folder of the code that runs."""

_CODE = ("patchdm", "stages")


def declared_params(stage: str, params: Params) -> dict[str, Any]:
    """Return the parameters that a stage declares: dotted key -> value."""
    values = params.model_dump(mode="json")
    found = {}
    for key in _stages()[stage].get("params", []):
        section, _, name = key.partition(".")
        found[key] = values[section][name] if name else values[section]
    return found


def declared_code(stage: str) -> dict[str, str]:
    """Return the code that a stage declares: path from the root -> SHA-256."""
    deps = [Path(dep) for dep in _stages()[stage]["deps"]]
    files = [file for dep in deps if dep.parts[0] in _CODE for file in files_of(ROOT / dep)]
    return {file.relative_to(ROOT).as_posix(): sha256(file) for file in sorted(files)}


def declared_outputs(stage: str | None = None, cell: str = "*-*") -> list[Path]:
    """Return those outputs of a stage, or of all, that exist below the current folder.

    Args:
        stage: its name.
        cell: the cell of the ablation whose outputs are meant; by default all.
    """
    stages = [_stages()[stage]] if stage else _stages().values()
    outs = [out for each in stages for kind in ("outs", "metrics") for out in each.get(kind, [])]
    paths = [out if isinstance(out, str) else next(iter(out)) for out in outs]
    patterns = [re.sub(r"\$\{item\.variant\}-\$\{item\.seed\}", cell, path) for path in paths]
    return [path for pattern in patterns for path in sorted(Path().glob(pattern))]


def params_digest(stage: str, params: Params) -> str:
    """Return 64 hex digits that change with any parameter that a stage declares."""
    values = json.dumps(declared_params(stage, params), sort_keys=True)
    return hashlib.sha256(values.encode()).hexdigest()


def files_of(path: Path) -> list[Path]:
    """Return the files of a path, sorted; of a folder those below it that DVC looks at."""
    if not path.is_dir():
        return [path]
    files = (file for file in path.rglob("*") if file.is_file())
    return sorted(file for file in files if "__pycache__" not in file.parts)


@functools.cache
def _stages() -> dict[str, dict[str, Any]]:
    return YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
