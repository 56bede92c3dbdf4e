"""A finished run for the commands that sample."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants

from patchdm.formats.images import save_png
from patchdm.models import CodeTable
from patchdm.pipeline import PatchDMPipeline
from stages._common import LATENT, PATCHDM
from stages.sample import sample
from tests.cli.hub import Hub
from tests.cli.runs import APPLICATIONS, SAMPLE, hole
from tests.fetch.server import serve
from tests.stages.models import small_params, write_models, write_params


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run in `run`, its models as a pipeline in `pipe`, a photograph and a mask."""
    folder = tmp_path_factory.mktemp("cli")
    with pytest.MonkeyPatch.context() as patch:
        (folder / "run").mkdir()
        patch.chdir(folder / "run")
        params = small_params(
            sample=SAMPLE,
            applications=APPLICATIONS,
            latent={"num_steps": 2},
            evaluate={"kid_subset_size": 2, "nearest_k": 1},
        )
        write_params(Path("params.yaml"), params)
        write_models(params)
        features = np.random.default_rng(0).normal(size=(20, 1280))
        table = CodeTable.from_features(features, params.model.code_dim, "efficientnet-lite0")
        table.save_pretrained(PATCHDM / "code_table")
        sample(params)
        pipe = PatchDMPipeline.from_stages(PATCHDM, LATENT)
        pipe.unet.register_to_config(unconditional=True)
        pipe.save_pretrained(folder / "pipe")
    noise = np.random.default_rng(1).integers(0, 256, (21, 35, 3), np.uint8)
    save_png(folder / "photo.png", noise)
    save_png(folder / "mask.png", np.stack([hole(noise)] * 3, axis=2).astype(np.uint8) * 255)
    return folder


@pytest.fixture
def work(folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder next to those."""
    for name in ("run", "pipe", "photo.png", "mask.png"):
        (tmp_path / name).symlink_to(folders / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def hub(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub on this host, with an empty cache; huggingface_hub reads the environment once."""
    with serve() as site:
        site.posted = (found := Hub(site)).answer
        monkeypatch.setattr(constants, "ENDPOINT", site.url)
        template = f"{site.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path_factory.mktemp("cache")))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        yield found
