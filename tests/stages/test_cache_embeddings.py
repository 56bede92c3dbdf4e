"""The stage cache_embeddings: one code per training image, of the averaged weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from patchdm.formats.patch_store import PatchStore
from patchdm.formats.tensors import to_tensor
from patchdm.formats.vectors import read_vectors
from patchdm.models import CodeTable
from patchdm.models.build import build_code
from stages import cache_embeddings as stage
from stages._common import CODES, PATCHDM, PATCHES
from stages.cache_embeddings import cache_embeddings
from tests.networks import awake
from tests.stages.tiny import tiny_params, write_tiny_store


@pytest.fixture(autouse=True)
def _store(tmp_dir: Path, landscapes: Path) -> None:
    write_tiny_store(tmp_dir / PATCHES, landscapes)


def test_codes_of_a_table_are_its_rows() -> None:
    table = CodeTable(18, 16)
    torch.nn.init.normal_(table.codes)
    table.save_pretrained(PATCHDM / "code_table")
    cache_embeddings(tiny_params())
    images, codes, metadata = read_vectors(CODES)
    assert images.tolist() == list(range(18))
    np.testing.assert_array_equal(codes, table.codes.detach())
    assert metadata == {"code": "table"}


def test_codes_of_an_encoder_are_of_whole_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "ENCODER_BATCH", 7)
    params = tiny_params(model={"code": "encoder"})
    encoder = awake(build_code(params.model, 18)).eval()
    encoder.save_pretrained(PATCHDM / "encoder")
    cache_embeddings(params)
    images, codes, _ = read_vectors(CODES)
    assert images.tolist() == list(range(18))
    with torch.no_grad():
        expected = encoder(to_tensor(PatchStore(PATCHES).images(images)))
    np.testing.assert_allclose(codes, expected, atol=1e-5)
    assert codes.std(axis=0).min() > 0


def test_without_a_global_code_there_are_no_rows() -> None:
    cache_embeddings(tiny_params(model={"code": "none"}))
    images, codes, metadata = read_vectors(CODES)
    assert (len(images), codes.shape, metadata) == (0, (0, 16), {"code": "none"})


def test_two_runs_give_the_same_bytes() -> None:
    CodeTable(18, 16).save_pretrained(PATCHDM / "code_table")
    cache_embeddings(tiny_params())
    first = CODES.read_bytes()
    CODES.unlink()
    cache_embeddings(tiny_params())
    assert CODES.read_bytes() == first
