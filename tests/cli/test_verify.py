"""`patchdm data verify` finds a flipped byte in any file of data/raw and data/patches."""

from __future__ import annotations

import random
from pathlib import Path

import lmdb
import pandas as pd
import pytest

from patchdm.cli.app import main
from patchdm.files import sha256
from patchdm.formats.raw import MANIFEST, Photograph, name_of_key
from stages._common import PATCHES, RAW
from stages.extract_patches import extract_patches
from tests.photographs import data_params, jpegs
from tests.stores import write_raw


@pytest.fixture
def folders(tmp_dir: Path) -> list[Path]:
    """A data/raw of six photographs and its data/patches, of several shards."""
    write_raw(tmp_dir / RAW, jpegs(6))
    extract_patches(data_params(workers=1))
    return [RAW, PATCHES]


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << random.Random(place).randrange(8)
    path.write_bytes(content)


def verify(*arguments: str) -> str:
    """Return the error, or nothing."""
    try:
        main(["data", "verify", *arguments])
    except SystemExit as error:
        code = error.code
    else:
        return ""
    assert isinstance(code, str)  # Python prints it and exits with 1
    assert "\n" not in code
    return code


@pytest.mark.usefixtures("folders")
def test_whole_folders_are_ok(capsys: pytest.CaptureFixture[str]) -> None:
    assert verify() == ""
    assert capsys.readouterr().out.splitlines() == [
        "data/raw: ok (6 images)",
        "data/patches: ok (6 images)",
    ]


@pytest.mark.usefixtures("folders")
@pytest.mark.parametrize(
    "name",
    [
        "raw/scene0.jpg",
        "raw/scene5.jpg",
        "patches/images-00000.npy",
        "patches/index.parquet",
        "patches/duplicates.csv",
        "patches/enlarged.csv",
        "patches/quarantine.csv",
        "patches/SHA256SUMS",
    ],
)
def test_a_flipped_byte_is_found_wherever_it_is(name: str) -> None:
    path = Path("data", name)
    whole = path.read_bytes()
    for place in {0, len(whole) - 1, *random.Random(1).sample(range(len(whole)), 12)}:
        flip(path, place)
        error = verify()
        assert error.startswith("error: data/"), (place, error)
        assert path.parent.as_posix() in error
        path.write_bytes(whole)
    assert verify() == ""


@pytest.mark.usefixtures("folders")
def test_flips_are_counted_and_the_first_is_named() -> None:
    for name in ("scene2.jpg", "scene4.jpg"):
        flip(RAW / name, 99)
    (RAW / "scene5.jpg").unlink()
    error = verify("data/raw")
    assert error.startswith("error: data/raw/scene2.jpg: found sha256 ")
    assert error.endswith(" (3 in all of data/raw)")

    flip(PATCHES / "images-00000.npy", 128 + 2 * 32 * 64 * 3)
    source = pd.read_parquet(PATCHES / "index.parquet")["source"][2]
    error = verify("data/patches")
    assert error.startswith(f"error: data/patches/images-00000.npy: image 2, of {source}: found")
    assert error.endswith(" (1 in all of data/patches)")


@pytest.mark.usefixtures("folders")
def test_a_lost_or_surplus_table_is_named() -> None:
    (PATCHES / "quarantine.csv").rename(PATCHES / "other.csv")
    assert verify().startswith("error: data/patches/other.csv: found sha256 ")
    (PATCHES / "other.csv").unlink()
    assert "quarantine.csv: not found, SHA256SUMS has it" in verify()
    (PATCHES / "SHA256SUMS").unlink()
    assert "SHA256SUMS: cannot be read" in verify()
    (PATCHES / "images-00000.npy").unlink()
    assert "no readable patch store" in verify() or "found 0 images" in verify()


def test_photographs_of_an_lmdb_are_verified(tmp_dir: Path) -> None:
    folder = tmp_dir / "raw"
    (folder / "lmdb").mkdir(parents=True)
    environment = lmdb.open(str(folder / "lmdb"), map_size=2**22)
    rows = []
    with environment.begin(write=True) as transaction:
        for name, content in jpegs(3).items():
            transaction.put(name.encode(), content)
            Path("one").write_bytes(content)
            image = name_of_key(name.encode())
            rows.append(Photograph(image, "lsun", "unknown", sha256(Path("one")), len(content)))
    environment.close()
    (folder / "lmdb/lock.mdb").unlink()
    pd.DataFrame(rows).to_parquet(folder / MANIFEST)
    assert verify("raw") == ""
    piece = jpegs(3)["scene1.jpg"][-60:-40]
    database = folder / "lmdb/data.mdb"
    database.write_bytes(database.read_bytes().replace(piece, bytes(20)))
    assert verify("raw").startswith("error: raw/lmdb/scene1.jpg: found sha256 ")


def test_other_folders_are_refused(tmp_dir: Path) -> None:
    assert "data/raw: not found" in verify()
    assert verify("nothing") == "error: nothing: not found"
    (tmp_dir / "nothing").mkdir()
    assert "nothing: found neither manifest.parquet nor index.parquet" in verify("nothing")
    (tmp_dir / "raw").mkdir()
    pd.DataFrame({"seed": [1]}).to_parquet("raw/manifest.parquet")
    assert "raw/manifest.parquet: damaged" in verify("raw")
    Path("raw/manifest.parquet").write_bytes(b"PAR1")
    assert "raw/manifest.parquet: damaged" in verify("raw")
