"""Photographs may lie anywhere but where stages write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from patchdm.config.data import OUTPUTS
from patchdm.errors import PatchDMError
from stages import _common
from tests import test_config as configs

load, values = configs.load, configs.values


@pytest.mark.parametrize("location", ["data/raw", "data/raw/mine", "./data/x/../raw", "data", "."])
def test_photographs_in_or_around_an_output_are_refused(
    values: dict[str, Any], location: str, tmp_path: Path
):
    values["data"] |= {"source": "folder", "location": location}
    with pytest.raises(PatchDMError, match=r"data.location: found .*, where stages write"):
        load(values, tmp_path)


def test_a_link_to_an_output_is_refused_too(values: dict[str, Any], tmp_path: Path):
    (tmp_path / "data/raw").mkdir(parents=True)
    (tmp_path / "mine").symlink_to("data/raw")
    values["data"] |= {"source": "folder", "location": "mine"}
    with pytest.raises(PatchDMError, match="which is inside data/raw"):
        load(values, tmp_path)


@pytest.mark.parametrize(
    ("source", "location"),
    [("folder", "data/sources/mine"), ("folder", "data/rawer"), ("hub", "data/raw"),
     ("archive", "https://example.org/data/raw")],
)  # fmt: skip
def test_photographs_elsewhere_are_not(
    values: dict[str, Any], source: str, location: str, tmp_path: Path
):
    values["data"] |= {"source": source, "location": location}
    load(values, tmp_path)


def test_outputs_are_where_stages_write():
    written = [value for name, value in vars(_common).items() if name.isupper()]
    paths = [path for path in written if isinstance(path, Path) and path != _common.PARAMS]
    homeless = [path for path in paths if not any(path.is_relative_to(o) for o in OUTPUTS)]
    assert homeless == []
