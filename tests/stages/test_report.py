"""The stage report: everything a run left behind in, one page out, or nothing at all."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from patchdm.config import Params
from patchdm.errors import PatchDMError
from patchdm.formats.images import save_png
from patchdm.formats.patch_store import PatchStore
from patchdm.report import figures
from stages import _common as paths
from stages.report import report
from tests.photographs import contents
from tests.report.pages import Page, pixels
from tests.report.runs import write_run
from tests.stages.tiny import tiny_params

MANIFEST = paths.SAMPLES / "manifest.parquet"
SHEETS = paths.PATCHDM_CURVES / "sheets"
SECTIONS = (
    "numbers", "table", "sheets", "seams", "crops", "memorisation", "restoring", "beyond", "paper",
    "curves", "progress", "provenance",
)  # fmt: skip


@pytest.fixture
def params(tmp_dir: Path, landscapes: Path) -> Params:
    """A finished run, but for its report."""
    params = tiny_params(report={"sheet_images": 5, "nearest_images": 2})
    write_run(tmp_dir, landscapes, params)
    return params


def outputs() -> dict[str, bytes]:
    """Return the bytes of all outputs."""
    return contents(paths.FIGURES) | {"index.html": paths.REPORT.read_bytes()}


def test_the_page_shows_the_run_and_needs_nothing_beside_it(params: Params) -> None:
    report(params)
    html = paths.REPORT.read_text()
    page = Page(html)

    assert set(page.texts) == {"", *SECTIONS}
    header, *rows = page.tables[0]
    assert header == [
        "Set", "n", "FID-EffNetLite0", "KID-EffNetLite0", "KID-EffNetLite0-std", "Seam",
        "Seam-padded",
    ]  # fmt: skip
    assert rows[1] == ["Samples", "7", "20.0", "0.0500", "0.0040", "1.200", "1.040"]
    assert rows[0][1:] == ["18", "–", "–", "–", "1.000", "0.980"]
    assert len(rows) == 4

    assert all(reference.startswith("data:") for reference in page.references)
    text = re.sub("base64,[A-Za-z0-9+/=]*", "", html)
    assert not re.search(r"url\(|@import|//", text)
    assert not {"script", "iframe", "object", "embed"} & set(page.tags)


def test_every_picture_decodes_and_is_a_figure_too(params: Params) -> None:
    report(params)
    page = Page(paths.REPORT.read_text())
    assert len(page.images) == 3 + 4 + 2 + 2 + 2 + (3 + 2) + (4 + 3) + 2
    assert all(page.alts)
    assert all(pixels(png).std() > 5 for png in page.images)
    assert sorted(page.images) == sorted(contents(paths.FIGURES).values())
    assert {"sheet-samples.png", "patchdm-loss.png", "progress-000000256.png"} <= set(
        contents(paths.FIGURES)
    )


def test_two_runs_give_the_same_bytes(params: Params) -> None:
    report(params)
    first = outputs()
    report(params)
    assert outputs() == first


def test_sheets_follow_their_parameter(params: Params) -> None:
    report(params)
    text = Page(paths.REPORT.read_text()).texts["sheets"]
    assert [int(n) for n in re.findall(r"(\d+) images,", text)] == [5, 5, 3]


def test_samples_nearest_to_photographs_are_shown_with_their_distances(params: Params) -> None:
    report(params)
    page = Page(paths.REPORT.read_text())
    text = page.texts["memorisation"]
    assert "62% of all pairs by features (median distance 9.5 against 11.25)" in text
    assert re.findall(r"Seed (\d+)", text) == ["43", "41"]
    assert "Distance 1.50 in features, 80 in pixels." in text
    store = PatchStore(paths.PATCHES)
    shown = pixels(contents(paths.FIGURES)["nearest-000043.png"])
    factor = figures.SHEET_WIDTH // (3 * (store.width + 2) - 2)
    _, by_features, by_pixels = np.split(
        shown[::factor, ::factor], [store.width + 2, 2 * (store.width + 2)], axis=1
    )
    np.testing.assert_array_equal(by_features[:, :-2], store.images([3])[0])
    np.testing.assert_array_equal(by_pixels, store.images([4])[0])


def test_neighbours_of_other_images_are_refused(params: Params) -> None:
    table = (paths.TABLES / "nearest.csv").read_text()
    (paths.TABLES / "nearest.csv").write_text(table.replace("43,3,", "43,20,"))  # a held-out one
    with pytest.raises(PatchDMError, match="nearest.csv: found rows that are no training images"):
        report(params)


def test_applications_are_shown_with_their_tables(params: Params) -> None:
    report(params)
    page = Page(paths.REPORT.read_text())
    assert "the photograph, what is known of it, Patch-DM, OpenCV Telea" in page.texts["restoring"]
    assert "what is known of it, Patch-DM with several seeds" in page.texts["restoring"]
    assert "64 × 32 pixels. Squeezed into the training grid." in page.texts["beyond"]
    restored, large = page.tables[2:4]
    assert restored[3] == ["inpainting", "photographs", "3", "–", "–", "-0.002", "1.102", "–"]
    assert large[0] == ["set", "width", "height", "n", "seam"]
    assert len(page.tables) == 1 + 1 + 2 + 3 + 1


def test_an_ablation_is_compared(tmp_dir: Path, landscapes: Path) -> None:
    ablation = {"variants": ["full", "no-code"], "seeds": [0, 1]}
    params = tiny_params(ablation=ablation)
    write_run(tmp_dir, landscapes, params)
    report(params)
    page = Page(paths.REPORT.read_text())
    assert {"ablation", "ablation-samples", "ablation-crops"} <= set(page.texts)
    assert "FID 30.5, worst seam 1.300" in page.texts["ablation-samples"]
    assert "mean over 2 training seeds" in page.texts["ablation"]
    assert page.tables[2][0][0] == "variant"
    assert "U-Net of no-code-1" in page.texts["provenance"]
    assert {
        "ablation-fid.png", "ablation-seam.png", "ablation-profiles.png",
        "ablation-samples-full.png", "ablation-crops-no-code.png",
    } <= set(contents(paths.FIGURES))  # fmt: skip
    missing = paths.ABLATIONS / "no-code-1/samples/manifest.parquet"
    missing.unlink()
    with pytest.raises(PatchDMError, match=re.escape(f"{missing}: not found")):
        report(params)


def test_without_a_global_code_there_is_no_latent_model(params: Params) -> None:
    shutil.rmtree(paths.LATENT)
    shutil.rmtree(paths.LATENT_CURVES)
    with pytest.raises(PatchDMError, match="data/models/latent: found no weights"):
        report(params)
    report(tiny_params(model={"code": "none"}))
    assert "Latent" not in Page(paths.REPORT.read_text()).texts["curves"]


@pytest.mark.parametrize(
    "path",
    [
        paths.METRICS,
        paths.TABLES / "metrics.csv",
        paths.TABLES / "nearest.csv",
        paths.APPLICATION_TABLES / "applications.csv",
        paths.APPLICATIONS / "rescaled",
        paths.PAPER_TABLES / "quality.csv",
        paths.PATCHES,
        paths.SAMPLES / "000040/000042.png",
        MANIFEST,
        paths.PATCHDM,
        SHEETS,
        paths.PATCHDM_CURVES / "plots" / "metrics" / "loss.tsv",
        paths.LATENT_CURVES / "plots" / "metrics" / "learning_rate.tsv",
    ],
    ids=str,
)
def test_a_missing_input_is_named_in_one_line_and_nothing_is_written(
    params: Params, path: Path
) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    with pytest.raises(PatchDMError, match=re.escape(f"{path}: ")) as error:
        report(params)
    assert "\n" not in str(error.value)
    assert not paths.REPORT.exists()
    assert not paths.FIGURES.exists()


def test_bad_samples_are_named_and_the_old_report_stays(params: Params) -> None:
    report(params)
    first = outputs()
    save_png(paths.SAMPLES / "000040/000041.png", np.zeros((16, 16, 3), np.uint8))
    with pytest.raises(PatchDMError, match="found 16 x 16 pixels of seed 41, expected 32 x 16"):
        report(params)
    MANIFEST.write_text("text")
    with pytest.raises(
        PatchDMError, match="manifest.parquet: not a table of seed, shard, file, sha256"
    ):
        report(params)
    pd.DataFrame({"seed": [], "shard": [], "file": [], "sha256": []}).to_parquet(MANIFEST)
    with pytest.raises(PatchDMError, match="manifest.parquet: found no samples"):
        report(params)
    assert outputs() == first
