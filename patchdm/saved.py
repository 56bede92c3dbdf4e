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
SHOWS = "landscapes"
"""What its images show."""
INDEX, CARD, SUMS = "model_index.json", "README.md", "SHA256SUMS"
PIPELINE = "PatchDMPipeline"
HUB_NAME = re.compile(r"(\w[\w.-]*/\w[\w.-]*)(?:@(.+))?")
"""OWNER/NAME or OWNER/NAME@REVISION."""
_OF_HUB = ("revision", "token", "cache_dir", "local_files_only", "force_download")
_LIBRARIES = ("diffusers", "patchdm")
LOADED = ("*.json", "*.safetensors")


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
        PatchDMError: there is none.
    """
    if not (BUNDLED / SUMS).is_file():
        raise PatchDMError(
            "model: none is named and none is bundled, expected a folder of save_pretrained, "
            "data/models of a run, or OWNER/NAME of the hub"
        )
    return BUNDLED


def located(name: str | Path | None, options: dict[str, Any]) -> Path:
    """Return the checked folder of a pipeline: the bundled one, one here or one of the hub.

    Args:
        name: a folder, or OWNER/NAME of the hub; None: the bundled model.
        options: of `from_pretrained`; those of a download are taken out of it.

    Raises:
        PatchDMError: there is no such model, or a file is damaged.
    """
    folder = bundled() if name is None else Path(name)
    found = HUB_NAME.fullmatch(str(name))
    if found and not folder.exists():
        from patchdm import hub  # noqa: PLC0415 - slow

        given = {key: options.pop(key) for key in _OF_HUB if key in options}
        folder = hub.download(found[1], **{"revision": found[2], **given})
    if not folder.is_dir():
        raise PatchDMError(
            f"{name}: {'found a file' if folder.exists() else 'not found'}, expected a folder of "
            "save_pretrained or OWNER/NAME of the hub"
        )
    check_sums(folder)
    return folder


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
    files = (path for pattern in LOADED for path in folder.rglob(pattern))
    return {path.relative_to(folder).as_posix(): sha256(path) for path in files}
