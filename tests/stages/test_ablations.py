"""Each ablation, one switch of the model, passes from training to samples."""

from __future__ import annotations

from pathlib import Path

import pytest

from patchdm.formats.vectors import read_vectors
from stages._common import CODES, LATENT, SAMPLES
from stages.cache_embeddings import cache_embeddings
from stages.sample import sample
from stages.train_latent import train_latent
from stages.train_patchdm import train_patchdm
from tests.stages.models import small_params, write_inputs


@pytest.mark.parametrize(
    "model",
    [{"code": "none"}, {"code": "encoder"}, {"position": False}, {"collage": "pixel-random"}],
    ids=str,
)
def test_ablation(tmp_dir: Path, landscapes: Path, model: dict[str, object]) -> None:
    params = small_params(
        model=model,
        train={"images_seen": 16, "code_dropout": 0.1, "position_dropout": 0.5},
        latent={"codes_seen": 32},
        sample={"num_images": 4, "guidance_scale": 0.5},
    )
    write_inputs(tmp_dir, landscapes, params)
    train_patchdm(params)
    cache_embeddings(params)
    train_latent(params)
    sample(params)
    with_code = params.model.code != "none"
    assert len(read_vectors(CODES)[0]) == (18 if with_code else 0)
    assert (LATENT / "latent").exists() == with_code
    assert len(list(SAMPLES.rglob("*.png"))) == 4
