"""Folders of `save_pretrained`: the bundled one, what a folder holds, and hashes of its files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from patchdm.errors import PatchDMError
from patchdm.files import sha256

BUNDLED = Path(__file__).parent / "showcase"
"""The model that comes with the package."""
BUNDLED_SHOWS = "landscapes"
INDEX, CARD, SUMS = "model_index.json", "README.md", "SHA256SUMS"
PIPELINE = "PatchDMPipeline"
_LIBRARIES = ("diffusers", "patchdm")
_LOADED = ("*.json", "*.safetensors")


def read_index(folder: Path, name: str) -> dict[str, Any]:
    """Return the model_index.json of a pipeline; errors call the folder `name`.

    Raises:
        PatchDMError: it is missing, or of another pipeline, or a part is of another library.
    """
    try:
        index = json.loads((folder / INDEX).read_bytes())
        kind = index["_class_name"]
    except FileNotFoundError:
        raise PatchDMError(f"{name}: found no {INDEX}, expected that of a {PIPELINE}") from None
    except (ValueError, KeyError, TypeError):
        raise PatchDMError(f"{name}/{INDEX}: not that of a pipeline") from None
    if kind != PIPELINE:
        raise PatchDMError(f"{name}: found a {kind}, expected a {PIPELINE}")
    for part, library in parts(index).items():
        if library.partition(".")[0] not in _LIBRARIES or not re.fullmatch(r"\w+", part):
            raise PatchDMError(
                f"{name}: found the part {part} of {library}, expected one of diffusers or patchdm"
            )
    return dict(index)


def parts(index: dict[str, Any]) -> dict[str, str]:
    """Return the names of a pipeline's parts, and the module of each."""
    pairs = {part: value for part, value in index.items() if isinstance(value, list)}
    return {part: str(value[0]) for part, value in pairs.items() if value and value[0]}


def image_size(folder: Path) -> str:
    """Return the size of a model's training images, such as "64x32"; empty: unknown."""
    try:
        height, width = json.loads((folder / "unet/config.json").read_bytes())["sample_size"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return f"{width}x{height}"


def bundled() -> Path:
    """Return the folder of the bundled model.

    Raises:
        PatchDMError: it is missing, or a file is damaged.
    """
    if not (BUNDLED / SUMS).is_file():
        raise PatchDMError(
            "model: found none bundled with this patchdm, expected the name of a folder or of a "
            "model of the hub"
        )
    check_sums(BUNDLED)
    return BUNDLED


def write_sums(folder: Path) -> None:
    """Write the SHA-256 of each file that a pipeline loads, as `sha256sum -c` reads them.

    The card is left out: it may be edited.
    """
    lines = [f"{digest}  {name}\n" for name, digest in sorted(_hashes(folder).items())]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def check_sums(folder: Path) -> None:
    """Compare the files that a pipeline loads with SHA256SUMS, if the folder has it.

    Raises:
        PatchDMError: a file is missing, damaged or not listed.
    """
    file = folder / SUMS
    if not file.is_file():
        return
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    expected = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    found = _hashes(folder)
    for name in sorted(expected | found):
        if found.get(name) != expected.get(name):
            raise PatchDMError(
                f"{folder / name}: found {_shown(found.get(name))}, expected "
                f"{_shown(expected.get(name))} as {SUMS} says"
            )


def _shown(digest: str | None) -> str:
    return f"sha256 {digest}" if digest else "no file"


def _hashes(folder: Path) -> dict[str, str]:
    files = (path for pattern in _LOADED for path in folder.rglob(pattern))
    return {path.relative_to(folder).as_posix(): sha256(path) for path in files}
