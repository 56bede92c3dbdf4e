"""The stage tables: from the metrics of a run and of its ablation's cells."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from patchdm.config import Params
from patchdm.errors import PatchDMError
from patchdm.models.build import build_code, build_latent, build_unet
from stages._common import ABLATION_METRICS, LATENT, METRICS, PAPER_TABLES, PATCHDM
from stages.tables import RESOLUTIONS, tables
from tests.conftest import REPO
from tests.photographs import contents
from tests.stages.tiny import tiny_params

FID = "FID (efficientnet-lite0, n = 8)"


def write_metrics(path: Path, fid: float, extractor: str = "efficientnet-lite0") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"extractor": extractor, "n_block": 8, "fid_samples": fid}))


@pytest.fixture
def params(tmp_dir: Path) -> Params:
    """Parameters of a run that has been evaluated, and whose ablation has."""
    run = tiny_params(ablation={"variants": ["full", "no-code"], "seeds": [0, 1]})
    build_unet(run.model).save_pretrained(tmp_dir / PATCHDM / "unet")
    build_code(run.model, 18).save_pretrained(tmp_dir / PATCHDM / "code_table")
    build_latent(run.latent, run.model.code_dim).save_pretrained(tmp_dir / LATENT / "latent")
    RESOLUTIONS.parent.mkdir(parents=True)
    shutil.copy(REPO / RESOLUTIONS, RESOLUTIONS)
    write_metrics(METRICS, 30.0)
    for seed, fid in ((0, 30.0), (1, 32.0)):
        write_metrics(ABLATION_METRICS / f"full-{seed}.json", fid)
        write_metrics(ABLATION_METRICS / f"no-code-{seed}.json", 2 * fid)
    return run


def test_it_writes_every_table_three_times(params: Params):
    tables(params)
    names = {"quality", "ablation", "differences", "parameters", "resolution"}
    endings = {".csv", ".md", ".tex"}
    assert set(contents(PAPER_TABLES)) == {name + ending for name in names for ending in endings}
    ablation = pd.read_csv(PAPER_TABLES / "ablation.csv", index_col="variant")
    assert dict(ablation[FID].dropna()) == {"full": 31.0, "no-code": 62.0}
    differences = pd.read_csv(PAPER_TABLES / "differences.csv", index_col="variant")
    assert dict(differences["FID"]) == {"no-code": 31.0}
    quality = pd.read_csv(PAPER_TABLES / "quality.csv", index_col="data")
    own = quality.loc["landscapes-free-768x384"].set_index("metric").loc["FID"]
    assert (own["size"], own["measured (efficientnet-lite0, n = 8)"], own["seeds"]) == (
        "32x16",
        31.0,
        2,
    )
    parameters = pd.read_csv(PAPER_TABLES / "parameters.csv", index_col="part")
    assert parameters.loc["table", "this run (M)"] == pytest.approx(18 * 16e-6)


def test_without_a_code_the_unet_is_counted_alone(params: Params):
    shutil.rmtree(LATENT)
    run = tiny_params(model={"code": "none"})
    tables(run.model_copy(update={"ablation": params.ablation}))
    counted = pd.read_csv(PAPER_TABLES / "parameters.csv", index_col="part")[
        "this run (M)"
    ].dropna()
    assert set(counted.index) == {"U-Net", "all parameters"}


def test_a_missing_network_is_refused(params: Params):
    shutil.rmtree(LATENT)
    with pytest.raises(PatchDMError, match=r"^data/models/latent: found no weights, run the stage"):
        tables(params)


def test_equal_inputs_give_equal_bytes(params: Params):
    tables(params)
    before = contents(PAPER_TABLES)
    tables(params)
    assert contents(PAPER_TABLES) == before


def test_without_an_ablation_its_cells_are_empty(params: Params):
    shutil.rmtree(ABLATION_METRICS)
    tables(params.model_copy(update={"ablation": tiny_params().ablation}))
    ablation = pd.read_csv(PAPER_TABLES / "ablation.csv", index_col="variant")
    assert ablation[FID].isna().all()
    quality = pd.read_csv(PAPER_TABLES / "quality.csv", index_col=["data", "metric"])
    assert quality.loc[("landscapes-free-768x384", "FID"), "seeds"].item() == 1


def test_the_papers_data_is_known_by_folder_and_width(params: Params):
    data = {"source": "folder", "location": "data/sources/ffhq", "width": 256, "height": 256}
    run = tiny_params(data=data)
    tables(run.model_copy(update={"ablation": params.ablation}))
    quality = pd.read_csv(PAPER_TABLES / "quality.csv", index_col=["data", "model", "metric"])
    own = quality.loc[("ffhq256", "Patch-DM", "FID")]
    assert own["paper (Inception, n = 50,000)"].item() == 10.02
    assert own["measured (efficientnet-lite0, n = 8)"].item() == 31.0


def test_the_papers_data_is_known_by_lsuns_archive(params: Params):
    location = "http://dl.yf.io/lsun/scenes/church_outdoor_train_lmdb.zip"
    run = tiny_params(data={"source": "lsun", "location": location, "width": 256, "height": 256})
    tables(run.model_copy(update={"ablation": params.ablation}))
    quality = pd.read_csv(PAPER_TABLES / "quality.csv", index_col=["data", "model", "metric"])
    own = quality.loc[("lsun-church256", "Patch-DM", "FID")]
    assert own["paper (Inception, n = 50,000)"].item() == 5.49


def test_cells_of_another_extractor_are_refused(params: Params):
    write_metrics(ABLATION_METRICS / "no-code-1.json", 5.0, "inception-adm")
    with pytest.raises(PatchDMError, match=r"^column measured: found numbers of efficientnet"):
        tables(params)
    assert not PAPER_TABLES.exists()


def test_a_missing_cell_is_refused(params: Params):
    (ABLATION_METRICS / "no-code-1.json").unlink()
    with pytest.raises(PatchDMError, match=r"^reports/ablations/no-code-1\.json: not found"):
        tables(params)
