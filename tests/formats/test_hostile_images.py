"""Every hostile file gives the right picture or one line; a run goes on, in bounded memory."""

from __future__ import annotations

import io
import re
import resource
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from patchdm.errors import PatchDMError
from patchdm.formats.images import read_image, read_views
from patchdm.formats.patch_store import PatchStore
from stages._common import PATCHES, RAW
from stages.extract_patches import extract_patches
from tests.formats.hostile import Case, cases
from tests.photographs import data_params, jpegs
from tests.stores import write_raw

CASES = list(cases())


def test_there_are_many() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 60


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_picture_or_one_line(case: Case) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if isinstance(case.expected, str):
            with pytest.raises(PatchDMError) as error:
                read_image(io.BytesIO(case.content), name="data/raw/x.jpg")
            assert re.search(case.expected, str(error.value))
            assert str(error.value).startswith("data/raw/x.jpg: ")
            assert "\n" not in str(error.value)
        else:
            found = read_image(io.BytesIO(case.content))
            assert found.shape == case.expected.shape
            assert np.abs(found.astype(int) - case.expected).mean() < 5
            (fitted,), size = read_views(io.BytesIO(case.content), 32, 16)
            assert fitted.shape == (16, 32, 3)
            assert size == (case.expected.shape[1], case.expected.shape[0])


@pytest.mark.usefixtures("tmp_dir")
def test_extraction_of_them_all_quarantines_the_bad_ones_in_bounded_memory() -> None:
    names = {f"{number:03d}-{Path(case.name).name}": case for number, case in enumerate(CASES)}
    write_raw(RAW, jpegs(9) | {name: case.content for name, case in names.items()})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    extract_patches(data_params(damaged_fraction=0.9, workers=1))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # KiB
    bad = {name for name, case in names.items() if isinstance(case.expected, str)}
    quarantine = pd.read_csv(PATCHES / "quarantine.csv")
    assert set(quarantine["source"]) == bad
    assert set(PatchStore(PATCHES).index["source"]) == names.keys() - bad | jpegs(9).keys()
