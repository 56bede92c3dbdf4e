"""Photographs as cameras, phones and programs write them: whole ones arrive, cut ones don't."""

from __future__ import annotations

import io
import random
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from patchdm.errors import PatchDMError
from patchdm.fetch import arrival
from patchdm.fetch.arrival import check_file
from patchdm.formats import images
from patchdm.formats.images import FORMATS, read_image, read_views
from tests.formats.hostile import save, with_size
from tests.photographs import photograph

PICTURE, OTHER = Image.fromarray(photograph(3)), Image.fromarray(photograph(8))
RGB = np.asarray(PICTURE)
VIDEO = b"\0\0\0\x18ftypmp42\0\0\0\0isommp42" + random.Random(0).randbytes(300_000)
MPO = save(PICTURE, "MPO", save_all=True, append_images=[OTHER.resize((48, 24))], quality=95)
needs_heif = pytest.mark.skipif("HEIF" not in FORMATS, reason="extra `heif` is not installed")

WHOLE = {
    "jpeg": save(PICTURE, "JPEG", quality=95),
    "progressive": save(PICTURE, "JPEG", quality=95, progressive=True),
    "restarts": save(PICTURE, "JPEG", quality=95, restart_marker_rows=1),
    "mpo": MPO,
    "png": save(PICTURE, "PNG"),
    "webp": save(PICTURE, "WEBP", quality=95),
    "avif": save(PICTURE, "AVIF", quality=95),
    "tiff": save(PICTURE, "TIFF"),
    "big tiff": save(PICTURE, "TIFF", big_tiff=True),
    "lzw": save(PICTURE, "TIFF", compression="tiff_lzw", icc_profile=bytes(600)),
    "jpeg in tiff": save(PICTURE, "TIFF", compression="jpeg", quality=95),
    "grey tiff": save(PICTURE.convert("L"), "TIFF", compression="tiff_adobe_deflate"),
}
if "HEIF" in FORMATS:
    WHOLE["heic"] = save(PICTURE, "HEIF", quality=95)


def check(tmp_path: Path, content: bytes) -> None:
    """Check a file as it is checked on arrival."""
    (tmp_path / "a.jpg").write_bytes(content)
    check_file(tmp_path / "a.jpg", "a.jpg", None)


def expected(kind: str) -> np.ndarray:
    return np.asarray(PICTURE.convert("L").convert("RGB") if "grey" in kind else PICTURE)


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("behind", [b"", b"MotionPhoto_Data" + VIDEO, WHOLE["jpeg"], bytes(5000)])
def test_whole_photographs_arrive_whatever_is_behind(
    tmp_path: Path, kind: str, behind: bytes
) -> None:
    content = WHOLE[kind] + behind
    check(tmp_path, content)
    found = read_image(io.BytesIO(content)).astype(int)
    assert np.abs(found - expected(kind)).mean() < 5
    (fitted,), size = read_views(io.BytesIO(content), 32, 16)
    assert (fitted.shape, size) == ((16, 32, 3), (96, 48))


@pytest.mark.parametrize("kind", WHOLE)
def test_every_cut_is_noticed_on_arrival(tmp_path: Path, kind: str) -> None:
    end = len(WHOLE["jpeg"]) - 500 if kind == "mpo" else len(WHOLE[kind])  # of the first picture
    cuts = {*range(1, end, end // 60), end - 1, end - 2, end - 9}
    for cut in sorted(cuts):
        with pytest.raises(PatchDMError, match=r"^a\.jpg: (truncated|damaged|found no) image"):
            check(tmp_path, WHOLE[kind][:cut])


def test_the_end_of_a_cut_jpeg_is_not_taken_from_what_is_behind(tmp_path: Path) -> None:
    cut = WHOLE["jpeg"][: len(WHOLE["jpeg"]) // 2]
    for behind in (WHOLE["jpeg"], bytes(99) + WHOLE["jpeg"]):
        with pytest.raises(PatchDMError, match="truncated image"):
            check(tmp_path, cut + behind)


def test_thumbnails_and_fill_bytes_before_the_scan_are_stepped_over(tmp_path: Path) -> None:
    thumbnail = save(OTHER, "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", 8 + len(thumbnail)) + b"Exif\0\0" + thumbnail
    whole = WHOLE["jpeg"]
    content = whole[:2] + segment + b"\xff\xff\xff" + whole[2:]
    check(tmp_path, content)
    with pytest.raises(PatchDMError, match="truncated image"):
        check(tmp_path, content[:-2])


def test_of_several_pictures_the_first_is_taken() -> None:
    # Copies: saving leaves marks in an image, of which Pillow's next TIFF of several pages dies.
    pages = {"save_all": True, "append_images": [OTHER.copy(), OTHER.copy()]}
    files = [save(PICTURE.copy(), kind, **pages) for kind in ("TIFF", "AVIF")]
    found = [read_image(io.BytesIO(content)) for content in (*files, MPO)]
    for first in found:
        assert np.abs(first.astype(int) - RGB).mean() < 6


@pytest.mark.parametrize("seed", range(40))
def test_damaged_tables_of_further_pictures_do_no_harm(tmp_path: Path, seed: int) -> None:
    dice, content = random.Random(seed), bytearray(MPO)
    start = content.index(b"MPF\0")
    for _ in range(1 + seed % 8):
        content[start + dice.randrange(4, 90)] = dice.randrange(256)
    check(tmp_path, bytes(content))
    np.testing.assert_array_equal(
        read_image(io.BytesIO(bytes(content))), read_image(io.BytesIO(MPO))
    )


@pytest.mark.parametrize(
    "piece", [b"\xff\0", b"\xff", b"\xff\x01", b"\xff\xd0", b"\xff\xe0\0\2", b"\0", b"\xff\xda\0\2"]
)
def test_a_hostile_scan_takes_no_time(tmp_path: Path, piece: bytes) -> None:
    head = WHOLE["jpeg"][: WHOLE["jpeg"].index(b"\xff\xda") + 14]
    begin = time.process_time()
    with pytest.raises(PatchDMError, match="truncated image"):
        check(tmp_path, head + piece * (2**25 // len(piece)))
    assert time.process_time() - begin < 5


def test_boxes_and_directories_without_end_take_no_time(tmp_path: Path) -> None:
    begin = time.process_time()
    boxes = WHOLE["avif"][:32] + b"\0\0\0\x08free" * 2**21
    directory = b"II*\0\x08\0\0\0\xff\xff" + bytes(2**24)
    large = b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0" + b"\xff" * 8 + bytes(2**24)
    for content in (boxes, directory, large):
        with pytest.raises(PatchDMError):
            check(tmp_path, content)
    assert time.process_time() - begin < 5


@pytest.mark.parametrize("kind", ["avif", "tiff", pytest.param("heic", marks=needs_heif)])
def test_pixels_are_limited_before_they_are_decoded(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 96 * 48 - 1)
    with pytest.raises(PatchDMError, match="found 96 x 48 pixels, the limit is 4607 in all"):
        check(tmp_path, WHOLE[kind])
    monkeypatch.setattr(images, "MAX_PIXELS", 96 * 48)
    check(tmp_path, WHOLE[kind])


def test_bombs_of_the_further_formats() -> None:
    tags = bytearray(WHOLE["tiff"])
    for tag in (256, 257):  # width, height
        at = tags.index(struct.pack("<HHI", tag, 4, 1), 8)
        tags[at + 8 : at + 12] = struct.pack("<I", 60_000)
    sizes = struct.pack(">II", 96, 48), struct.pack(">II", 60_000, 60_000)
    for content in (bytes(tags), WHOLE["avif"].replace(*sizes), with_size(MPO, 65_500, 65_500)):
        with pytest.raises(PatchDMError, match="found more than 67108864 pixels|no image"):
            read_image(io.BytesIO(content), "a.jpg")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["TIFF", "AVIF", pytest.param("HEIF", marks=needs_heif)])
def test_further_formats_are_turned_once(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    reference = read_image(io.BytesIO(save(PICTURE, "PNG", exif=exif))).astype(int)
    content = save(PICTURE, kind, exif=exif.tobytes() if kind == "HEIF" else exif)
    assert np.abs(read_image(io.BytesIO(content)) - reference).mean() < 7
    _, size = read_views(io.BytesIO(content), 8, 8)
    assert size == reference.shape[1::-1]


def test_damaged_tiffs_are_one_line_and_nothing_else(capfd: pytest.CaptureFixture[str]) -> None:
    """Their library writes to the standard error of the process by itself."""
    damaged = bytearray(WHOLE["lzw"])
    damaged[1000:3000] = random.Random(0).randbytes(2000)
    samples = bytearray(WHOLE["tiff"])
    at = samples.index(struct.pack("<HHI", 277, 3, 1))
    samples[at + 8 : at + 10] = struct.pack("<H", 9999)
    for content in (bytes(damaged), bytes(samples)):
        with pytest.raises(PatchDMError, match=r"^a\.tif: (damaged|found no) image"):
            read_image(io.BytesIO(content), "a.tif")
    assert capfd.readouterr() == ("", "")
    print("still heard", file=sys.stderr)
    assert capfd.readouterr().err == "still heard\n"


@needs_heif
def test_heic_is_read_by_its_content_and_never_as_its_thumbnail(tmp_path: Path) -> None:
    large = PICTURE.resize((1536, 768))
    content = save(large, "HEIF", quality=95, thumbnails=[256])
    check(tmp_path, content)
    (fitted,), _ = read_views(tmp_path / "a.jpg", 48, 24)
    small = np.asarray(PICTURE.resize((48, 24), Image.Resampling.LANCZOS)).astype(int)
    assert np.abs(fitted - small).mean() < 4


WITHOUT_HEIF = """
import sys
sys.modules["pillow_heif"] = None
from pathlib import Path
from patchdm.fetch.arrival import check_file
from patchdm.fetch.names import PassedOver
from patchdm.errors import PatchDMError
passed_over = PassedOver()
assert not passed_over.takes("IMG_1.HEIC")
print(passed_over)
Path("a.jpg").write_bytes(b"\\0\\0\\0\\x18ftypheic" + bytes(99))
try:
    check_file(Path("a.jpg"), "a.jpg", None)
except PatchDMError as error:
    print(error)
"""


@pytest.mark.usefixtures("tmp_dir")
def test_without_its_extra_heic_is_named() -> None:
    run = [sys.executable, "-c", WITHOUT_HEIF]
    passed_over, error = subprocess.run(
        run, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert passed_over == (
        "passed over 1 file: 1 .heic (`pip install pillow-heif` lets them be read)"
    )
    assert error.startswith("a.jpg: found no image, it is HEIC, which `pip install pillow-heif`")


def test_limits_of_parts_allow_what_cameras_write() -> None:
    """Extended XMP of 256 MiB has 4,096 segments, a progressive JPEG some tens."""
    assert arrival._MOST_SEGMENTS > 2 * arrival.MAX_BYTES // 2**16
