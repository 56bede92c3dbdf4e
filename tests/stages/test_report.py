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
from stages.tables import tables
from tests.photographs import contents
from tests.report.pages import Page, pixels
from tests.report.runs import write_run
from tests.stages.tiny import tiny_params

MANIFEST = paths.SAMPLES / "manifest.parquet"
SHEETS = paths.PATCHDM_CURVES / "sheets"
SECTIONS = (
    "numbers", "table", "sheets", "seams", "crops", "memorisation", "restoring", "beyond",
    "paper", "curves", "progress", "credits", "provenance",
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
    assert header == ["Set", "n", "FID", "KID", "Seam", "Seam, padded"]
    assert rows[1] == ["Samples", "7", "20.0", "0.0500 ± 0.0040", "1.200", "1.040"]
    assert rows[0][1:] == ["18", "–", "–", "1.000", "0.980"]
    assert len(rows) == 4
    assert "3 look like another one, 1 could not be used, 2 are smaller" in page.texts[""]

    inside = [reference for reference in page.references if not reference.startswith("data:")]
    assert inside == [f"#{section}" for section in SECTIONS]
    text = re.sub("base64,[A-Za-z0-9+/=]*", "", html)
    assert not re.search(r"url\(|@import|//", text)
    assert not {"script", "iframe", "object", "embed"} & set(page.tags)


def test_every_picture_decodes_and_is_a_figure_too(params: Params) -> None:
    report(params)
    page = Page(paths.REPORT.read_text())
    assert len(page.images) == 3 + 4 + 2 + 2 + 2 + (3 + 2 + 2) + (4 + 3) + 2
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
    assert large[0] == ["set", "width", "height", "n", "seam", "repetition"]
    assert large[4][-1] == "0.500"
    assert "1 where an image repeats one part" in page.texts["beyond"]
    seams = page.tables[4]
    assert seams[0] == ["image", "border", "score"]
    assert len(seams) == 1 + 10
    scores = [float(row[2]) for row in seams[1:]]
    assert scores == sorted(scores, reverse=True)
    assert len(page.tables) == 1 + 1 + 2 + 2 + 3 + 1 + 1  # the paper has three


def test_photographs_with_a_licence_are_credited(params: Params) -> None:
    csv = Path(params.data.location).with_suffix(".csv")
    csv.parent.mkdir(parents=True)
    shown = PatchStore(paths.PATCHES).index["source"].iloc[0]
    csv.write_text(f"file,author\n{shown},Ada\n")
    report(params)
    header, *rows = Page(paths.REPORT.read_text()).tables[-1]
    assert header == ["file", "author", "licence", "origin"]
    assert [shown, "Ada", "CC0-1.0", "a collection"] in rows
    assert len({row[0] for row in rows}) == len(rows)
    assert {row[1] for row in rows} == {"Ada", ""}
    index = pd.read_parquet(paths.PATCHES / "index.parquet")
    index.assign(licence="unknown").to_parquet(paths.PATCHES / "index.parquet")
    report(params)
    assert "credits" not in Page(paths.REPORT.read_text()).texts


def test_the_papers_numbers_stand_next_to_those_of_its_data_sets(params: Params) -> None:
    """And beside the bundled photographs, with what would measure them; beside others none."""
    report(params)
    quality = Page(paths.REPORT.read_text()).tables[6]
    bundled = ["landscapes-free-768x384", "32x16", "Patch-DM", "FID", "", "", "20.00", "1", ""]
    church = next(row for row in quality if row[:4:2] == ["lsun-church256", "Patch-DM"])
    assert bundled in quality
    assert church[-1].startswith("make paper PRESET=lsun-church256: 126,227 photographs (are fetc")
    mine = {"source": "folder", "location": "data/sources/mine"}
    own = params.model_copy(update={"data": params.data.model_copy(update=mine)})
    report(own)
    assert "paper" not in Page(paths.REPORT.read_text()).texts
    shutil.rmtree(paths.PAPER_TABLES)
    data = params.data.model_copy(
        update={"source": "lsun", "location": "church_outdoor_train_lmdb.zip"}
        | {"width": 256, "height": 256}
    )
    papers = params.model_copy(update={"data": data})
    tables(papers)
    report(papers)
    page = Page(paths.REPORT.read_text())
    quality = page.tables[6]
    assert quality[0] == [
        "size", "model", "metric", "paper (Inception, n = 50,000)", "tag",
        "measured (efficientnet-lite0, n = 7)", "seeds", "to measure it",
    ]  # fmt: skip
    assert quality[1][1:] == ["Patch-DM", "FID", "5.49", "2nd (four texts)", "20.00", "1", ""]
    other = "not by this software"
    assert ["256x256", "LDM-8", "FID", "4.23", "2nd", "", "", other] in quality
    assert "ADM" not in {row[1] for row in quality}


def test_an_ablation_is_compared(tmp_dir: Path, landscapes: Path) -> None:
    ablation = {"variants": ["full", "no-code"], "seeds": [0, 1]}
    params = tiny_params(ablation=ablation)
    write_run(tmp_dir, landscapes, params)
    report(params)
    page = Page(paths.REPORT.read_text())
    assert {"ablation", "ablation-samples", "ablation-crops"} <= set(page.texts)
    assert "FID 30.5, worst seam 1.300" in page.texts["ablation-samples"]
    assert "mean over 2 training seeds" in page.texts["ablation"]
    header, full, *_ = page.tables[2]
    paper, found = "paper FID (FFHQ, Inception, n = 1,000)", "FID (efficientnet-lite0, n = 7)"
    assert header[:5] == ["variant", paper, "tag", found, "FID min"]
    assert full[1:4] == ["37.99", "2nd", "30.50 ± 0.7071"]
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
        paths.PATCHES,
        paths.PATCHES / "quarantine.csv",
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
