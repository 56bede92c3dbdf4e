"""Small real photographs for tests, and archives of them."""

from __future__ import annotations

import functools
import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from patchdm.config import Params, load_params
from patchdm.formats.images import Pixels

ROOT = Path(__file__).parents[1]
BUNDLED = ROOT / "data/bundled/landscapes-free-768x384.zip"


@functools.cache
def photograph(number: int, width: int = 96, height: int = 48) -> Pixels:
    """Return the middle of a bundled photograph of 768 x 384 pixels."""
    with zipfile.ZipFile(BUNDLED) as archive:
        member = archive.infolist()[number]
        image = np.asarray(Image.open(io.BytesIO(archive.read(member))))
    return image[192 - height // 2 :, 384 - width // 2 :][:height, :width]


def encoded(image: Pixels, image_format: str = "JPEG") -> bytes:
    """Return an image as the bytes of a file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, image_format)
    return buffer.getvalue()


def jpegs(count: int) -> dict[str, bytes]:
    """Return files of different photographs by name."""
    return {f"scene{number}.jpg": encoded(photograph(number)) for number in range(count)}


def write_bundle(folder: Path, files: dict[str, bytes]) -> Path:
    """Write an archive and the CSV next to it; return the archive's path."""
    folder.mkdir(exist_ok=True)
    location = folder / "bundle.zip"
    with zipfile.ZipFile(location, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"scenes/{name}", content)
    write_table(location, files)
    return location


def write_table(location: Path, files: dict[str, bytes]) -> None:
    """Write the CSV next to an archive."""
    rows = [
        f"{name},someone,example.org,public domain,{hashlib.sha256(content).hexdigest()}\n"
        for name, content in files.items()
    ]
    location.with_suffix(".csv").write_text("file,author,origin,licence,sha256\n" + "".join(rows))


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files below a folder; return it."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def data_params(**data: object) -> Params:
    """Return the parameters of params.yaml with other values in data or machine, for few images."""
    params = _params()
    machine = {key: data.pop(key) for key in ("transfers", "workers") if key in data}
    sections = {
        "machine": params.machine.model_copy(update=machine),
        "data": params.data.model_copy(update={"views": 1} | data),
        "train": params.train.model_copy(update={"batch_size": 2}),
        "applications": params.applications.model_copy(
            update={"large_width": 512, "large_height": 256}
        ),
        "evaluate": params.evaluate.model_copy(update={"nearest_k": 1}),
    }
    return params.model_copy(update=sections)


@functools.cache
def _params() -> Params:
    return load_params(ROOT / "params.yaml")


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder by its relative path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
