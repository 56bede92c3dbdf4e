"""What a look at a folder of photographs finds."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from patchdm.config import Data
from patchdm.errors import PatchDMError
from patchdm.fit.look import Found, look
from tests.fit.cases import preset


def looked(folder: Path) -> Found:
    values: dict[str, Any] = preset("showcase")["data"] | {
        "source": "folder", "location": str(folder), "width": 64, "height": 32
    }  # fmt: skip
    return look(Data.model_validate(values), 1, lambda _total: lambda _done: None)


@pytest.fixture
def folder(tmp_path: Path, landscapes: Path) -> Path:
    """Twelve landscapes, one of them again in other bytes, one cut off, one small, and a text."""
    place = tmp_path / "photographs"
    shutil.copytree(landscapes, place)
    first, second, third, *_ = sorted(place.iterdir())
    with Image.open(first) as image:
        image.save(place / "again.png")
    second.write_bytes(second.read_bytes()[:500])
    with Image.open(third) as image:
        image.resize((48, 24)).save(third)
    (place / "notes.txt").write_text("not a photograph")
    return place


def test_it_counts_and_tells_kinds_damage_and_copies(folder: Path):
    found = looked(folder)
    assert (found.photographs, found.looked_at, found.usable) == (13, 13, 12)
    assert found.suffixes == {".jpg": 11, ".png": 1}
    assert len(found.damaged) == 1
    assert found.alike == 1
    text = found.lines(64, 32)
    assert text[0] == "13 photographs: 11 .jpg, 1 .png"
    assert text[1].startswith("1 cannot be read, the first: ")
    assert text[2].startswith("median size 96x48, 1 smaller than 64x32")
    assert text[3].startswith("1 look like another one")


def test_of_many_some_are_decoded(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("patchdm.fit.look.MOST", 4)
    found = looked(folder)
    assert (found.photographs, found.looked_at) == (13, 4)


def test_links_that_form_a_circle_end(folder: Path):
    (folder / "circle").symlink_to(folder)
    assert looked(folder).photographs == 13


def test_a_folder_without_photographs_is_refused(tmp_path: Path):
    with pytest.raises(PatchDMError, match="found no image, it is empty"):
        looked(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(PatchDMError, match="found no image, passed over 1 file: 1 .txt"):
        looked(tmp_path)
