"""The model that comes with the package: whole, small, and what its card says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from patchdm.cli.app import main
from patchdm.config import load_params, params_hash
from patchdm.formats.shards import read_images
from patchdm.pipeline import PatchDMPipeline
from patchdm.saved import BUNDLED, CARD, LOADED, check_sums
from tests.conftest import REPO

PARTS = REPO / "tests/golden/showcase.npy"
"""Mean colours (2, 4, 8, 3) of parts of 32 x 32 pixels, of seeds 0 and 1."""


def test_it_is_whole_and_small():
    check_sums(BUNDLED)
    files = [path for path in BUNDLED.rglob("*") if path.is_file()]
    assert {path.suffix for path in files if path.suffix} >= {Path(each).suffix for each in LOADED}
    assert sum(path.stat().st_size for path in files) <= 12e6


def test_it_is_the_preset_and_its_card_says_so():
    params, pipe = load_params(REPO / "presets/showcase.yaml"), PatchDMPipeline.from_pretrained()
    assert pipe.unet.config.sample_size == [params.data.height, params.data.width]
    assert pipe.latent is not None
    assert pipe.latent.config.hidden == params.latent.hidden
    assert pipe.config.defaults["sample"]["num_inference_steps"] == params.sample.num_steps
    assert params_hash(params)[:12] in (BUNDLED / CARD).read_text()


def test_nothing_named_it_draws_the_same_landscapes_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.chdir(tmp_path)
    main(["sample", "--seeds", "0:2", "--out", "first"])
    assert capsys.readouterr().err.startswith("model: bundled patchdm/showcase, 256x128")
    images = np.stack([image for _, image in read_images(Path("first"))])
    assert images.shape == (2, 128, 256, 3)
    parts = images.reshape(2, 4, 32, 8, 32, 3).mean(axis=(2, 4))
    # Machines round in other ways, which sampling makes some grey levels at single pixels.
    np.testing.assert_allclose(parts, np.load(PARTS), atol=1.5)
