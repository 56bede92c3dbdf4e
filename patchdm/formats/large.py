"""Images larger than memory, as files: a tiled pyramidal BigTIFF, or a DeepZoom folder.

libvips reads the pixels from a raw file and writes in bounded memory.
"""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path
from typing import Any

from patchdm.errors import PatchDMError, one_line
from patchdm.files import replacing
from patchdm.formats.images import save_png

TILE, OVERLAP, TILE_FORMAT = 256, 1, "jpg"
"""Side of a tile in pixels, a multiple of 16; of DeepZoom folders also its margin and its kind."""
QUALITY = 90
"""Of their tiles, which only show; the TIFF loses nothing."""
SUFFIXES = ".png", ".tif", ".dzi"
MOST_PNG = 100_000_000
"""Pixels of a PNG, which is written from memory."""


def check_in_memory(option: str, width: int, height: int) -> None:
    """Refuse an image that is made in memory and has too many pixels.

    Raises:
        PatchDMError: it names the option that asks for it.
    """
    if width * height > MOST_PNG:
        raise PatchDMError(
            f"{option}: found an image of {width}x{height} pixels, expected at most "
            f"{MOST_PNG / 1e6:.0f} megapixels; `patchdm panorama` makes larger ones"
        )


def check_output(path: Path, pixels: int, *, force: bool) -> None:
    """Refuse a file that is there, unless `force`, or cannot be written, before hours of work.

    Raises:
        PatchDMError: also where its name has another ending, the image is too large for it, or
            libvips is not installed.
    """
    if path.suffix not in SUFFIXES:
        raise PatchDMError(f"--out: found {path}, expected a file named {', '.join(SUFFIXES)}")
    if path.is_dir():
        raise PatchDMError(f"--out: found {path}, which is a folder, expected a file")
    if path.suffix == ".png" and pixels > MOST_PNG:
        raise PatchDMError(
            f"--out: found {path}, expected .tif or .dzi for {pixels / 1e6:,.0f} megapixels, more "
            f"than {MOST_PNG / 1e6:.0f}"
        )
    if path.exists() and not force:
        raise PatchDMError(f"--out: found {path}, expected a new file, or --force to replace it")
    if path.suffix != ".png":
        _libvips()


def write_large(raw: Path, width: int, height: int, path: Path) -> None:
    """Write uint8 pixels (height, width, 3) of a raw file as an image of the kind of `path`.

    Of a DeepZoom image the tiles are in NAME_files, beside NAME.dzi. Its parts are made beside the
    raw file, on the disk of `path`.

    Raises:
        PatchDMError: libvips cannot write it, as on a full disk.
    """
    if path.suffix == ".png":
        import numpy as np  # noqa: PLC0415

        save_png(path, np.memmap(raw, np.uint8, "r", shape=(height, width, 3)))
        return
    try:
        _write_by_libvips(raw, width, height, path)
    except _libvips().Error as error:
        raise PatchDMError(f"{path}: libvips cannot write it: {one_line(error)}") from None


def _write_by_libvips(raw: Path, width: int, height: int, path: Path) -> None:
    image = _libvips().Image.rawload(str(raw), width, height, 3).copy(interpretation="srgb")
    if path.suffix == ".tif":
        with replacing(path) as fresh:
            tiled = {"tile": True, "tile_width": TILE, "tile_height": TILE, "pyramid": True}
            packed = {"compression": "deflate", "predictor": "horizontal"}
            image.tiffsave(str(fresh), bigtiff=True, **tiled, **packed)
        return
    # Beside the pixels, where the next call removes what a kill has left of it.
    scratch = raw.with_name("deepzoom")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    suffix = f".{TILE_FORMAT}[Q={QUALITY}]"
    image.dzsave(str(scratch / "image"), tile_size=TILE, overlap=OVERLAP, suffix=suffix)
    (scratch / "image_files/vips-properties.xml").unlink(missing_ok=True)  # it has the date
    with replacing(path.with_name(f"{path.stem}_files")) as fresh:
        (scratch / "image_files").rename(fresh)
    with replacing(path) as fresh:
        (scratch / "image.dzi").rename(fresh)


def _libvips() -> Any:
    try:
        return importlib.import_module("pyvips")
    except (ImportError, OSError) as error:
        raise PatchDMError(
            f"--out: pyvips cannot be loaded ({error}), `pip install 'patchdm[large]'`"
        ) from None
