"""The paper's tables, rebuilt."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from patchdm.ablation import VARIANTS
from patchdm.errors import PatchDMError
from patchdm.report.tables.build import (
    CAPTIONS,
    ablation_table,
    differences_table,
    parameters_table,
    quality_table,
    resolution_table,
)
from patchdm.report.tables.paper import Source, one_source, paper_numbers
from patchdm.report.tables.results import (
    RESOLUTION_COLUMNS,
    Result,
    read_resolutions,
    read_result,
    spread,
)
from patchdm.report.tables.write import read_words, write_tables

LITE = Source("efficientnet-lite0", 224)
MEASURED = "measured (efficientnet-lite0, n = 224)"
PAPER = "paper (Inception, n = 50,000)"


def result(fid: float, source: Source = LITE, **scores: float) -> Result:
    return Result(source, {"fid": fid, **scores})


def row(table: pd.DataFrame, **place: str) -> pd.Series:
    for column, value in place.items():
        table = table[table[column] == value]
    (only,) = [one for _, one in table.iterrows()]
    return only


def test_every_number_of_the_paper_says_where_it_comes_from():
    for table in ("quality", "ablation", "parameters"):
        for number in paper_numbers(table):
            assert number.tag in ("P", "C", "2nd", "counted") or number.value is None, number
    assert {n.source for n in paper_numbers("quality")} == {Source("Inception", 50_000)}
    assert {n.source for n in paper_numbers("ablation")} == {Source("Inception", 1_000)}


def test_the_papers_order_is_that_of_its_text():
    fid = {n.model: n.value for n in paper_numbers("ablation")}
    assert sorted(fid, key=lambda name: fid[name] or 0) == [
        "full",
        "no-position",
        "pixel-fixed",
        "pixel-random",
        "no-code",
    ]
    assert fid.keys() <= VARIANTS.keys()


@pytest.mark.parametrize("other", [Source("inception-adm", 224), Source(LITE.extractor, 1000)])
def test_numbers_of_other_features_or_counts_never_share_a_column(other: Source):
    mixed = [result(30.0), result(31.0, other)]
    for build in (
        lambda: one_source([one.source for one in mixed], "measured"),
        lambda: quality_table("nature1024", "1024x512", mixed),
        lambda: ablation_table({"full": mixed}, result(30.0)),
        lambda: ablation_table({"full": mixed[:1], "no-code": mixed[1:]}, result(30.0)),
        lambda: ablation_table({"full": mixed[1:]}, result(30.0)),
    ):
        with pytest.raises(PatchDMError) as error:
            build()
        first, second = sorted([LITE, other])
        assert str(error.value) == (
            f"column measured: found numbers of {first} and of {second}, expected one "
            "extractor and one n"
        )


def test_seeds_give_mean_sample_deviation_minimum_and_tolerance():
    of = spread([result(30.0), result(33.0), result(36.0)], "fid")
    assert (of.mean, of.std, of.least, of.tolerance) == (33.0, 3.0, 30.0, 6.0)
    one = spread([result(30.0)], "fid")
    assert (one.mean, one.least) == (30.0, 30.0)
    assert math.isnan(one.std)
    assert math.isnan(one.tolerance)
    assert math.isnan(spread([], "fid").mean)
    assert math.isnan(spread([result(30.0)], "sfid").mean)


def test_a_run_on_its_own_data_stands_apart_from_the_papers():
    table = quality_table("landscapes", "64x32", [result(30.0, kid=0.1), result(33.0, kid=0.2)])
    assert table[PAPER].notna().sum() == len(paper_numbers("quality"))
    own = row(table, data="landscapes", metric="FID")
    assert math.isnan(own[PAPER])
    assert (own[MEASURED], own["extractor"], own["n"], own["seeds"]) == (31.5, *LITE, 2)
    assert own["tolerance"] == pytest.approx(2 * 3 / math.sqrt(2), rel=1e-5)
    papers = row(table, data="ffhq256", model="Patch-DM", metric="FID")
    assert (papers[PAPER], papers["tag"]) == (10.02, "2nd (three texts)")
    assert math.isnan(papers[MEASURED])
    assert papers["extractor"] == ""
    unmeasured = row(table, data="landscapes", metric="sFID")
    assert math.isnan(unmeasured[MEASURED])
    assert pd.isna(unmeasured["n"])


def test_a_run_on_the_papers_data_stands_beside_it_in_a_column_of_its_own():
    table = quality_table("lsun-church256", "256x256", [result(7.0)])
    beside = row(table, data="lsun-church256", model="Patch-DM", metric="FID")
    assert (beside[PAPER], beside[MEASURED], beside["seeds"]) == (5.49, 7.0, 1)
    assert math.isnan(beside["tolerance"])


def test_the_ablation_has_a_row_a_variant():
    seam = {"seam_worst": 1.3, "seam": 1.1, "seam_padded": 1.2, "kid": 0.1}
    cells = {"full": [result(30.0, **seam), result(34.0, **seam)], "no-collage": [result(90.0)]}
    table = ablation_table(cells, result(30.0))
    assert list(table["variant"]) == list(VARIANTS)[:6]  # the paper's, and what was measured
    full, none = row(table, variant="full"), row(table, variant="no-collage")
    fid, paper = "FID (efficientnet-lite0, n = 224)", "paper FID (FFHQ, Inception, n = 1,000)"
    assert (full[paper], full[fid], full["FID min"], full["seeds"]) == (37.99, 32.0, 30.0, 2)
    assert (full["seam"], full["padded seam"], full["seam std"]) == (1.1, 1.2, 0.0)
    assert full["worst seam"] == 1.3
    assert (none[fid], none["seeds"]) == (90.0, 1)
    assert math.isnan(none[paper])  # the paper has no such row
    assert math.isnan(none["seam"])
    assert row(table, variant="no-code")["extractor"] == ""


def test_differences_are_paired_by_training_seed(tmp_path: Path):
    """Seeds that differ by 100 hide nothing where the variant is worse by 10 at each."""
    cells = {
        "full": [result(100.0, kid=0.1), result(200.0, kid=0.1), result(300.0, kid=0.1)],
        "no-code": [result(109.0, kid=0.1), result(210.0, kid=0.1), result(311.0, kid=0.1)],
    }
    table = differences_table(cells)
    assert list(table["variant"]) == ["no-code"]
    one = row(table, variant="no-code")
    half = 4.303 * 1 / math.sqrt(3)  # Student's t of two degrees of freedom, deviation 1
    assert (one["FID"], one["seeds"]) == (10.0, 3)
    assert one["FID low"] == pytest.approx(10 - half, rel=1e-5)
    assert one["FID high"] == pytest.approx(10 + half, rel=1e-5)
    assert (one["KID"], one["KID low"], one["KID high"]) == (0, 0, 0)
    assert math.isnan(one["coherence"])

    write_tables(tmp_path, {"differences": table})
    words = read_words(tmp_path, "differences", "landscapes")
    assert words.rows[0][:3] == ["no-code", "3", "10 [7.52, 12.48]"]


def test_one_seed_has_a_difference_and_no_interval():
    table = differences_table({"full": [result(3.0)], "no-code": [result(4.0)]})
    assert table["FID"].tolist() == [1.0]
    assert table["FID low"].isna().all()


def test_parameters_are_counted_beside_the_papers():
    table = parameters_table({"U-Net": 800_000, "table": 7_000, "latent model": 1_500_000})
    unet = row(table, model="Patch-DM", part="U-Net")
    assert (unet["paper (M)"], unet["its layout, counted (M)"], unet["this run (M)"]) == (
        70,
        71.40,
        0.8,
    )
    whole = row(table, model="Patch-DM", part="all parameters")
    assert (whole["paper (M)"], whole["this run (M)"]) == (154, 2.307)
    assert math.isnan(row(table, model="ADM")["this run (M)"])


def test_resolutions_nobody_measured_are_empty():
    found = [("128x64", "demo", "whole", 9.0, 0.5, "2 CPU threads")]
    table = resolution_table(pd.DataFrame(found, columns=list(RESOLUTION_COLUMNS)))
    assert list(table["size"])[:2] == ["128x64", "256x256"]
    assert table["paper memory"].isna().all()  # nobody has told
    assert row(table, size="128x64")["time (s a step)"] == 0.5
    assert math.isnan(row(table, size="2048x1024")["time (s a step)"])


def test_files_say_what_the_frame_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(CAPTIONS, "t", "Half of 100 % is_50")
    frame = pd.DataFrame(
        {"a_b": ["x & y_z", ""], "FID (lite, n = 5)": [1.9, None], "n": [50_000, None]}
    )
    write_tables(tmp_path, {"t": frame})
    csv, markdown, latex = (
        (tmp_path / f"t.{ending}").read_text() for ending in ("csv", "md", "tex")
    )
    assert csv == 'a_b,"FID (lite, n = 5)",n\nx & y_z,1.9,50000\n,,\n'
    assert markdown.startswith("Half of 100 % is_50\n\n| a_b ")
    assert [cell.strip() for cell in markdown.splitlines()[4].split("|")] == [
        "",
        "x & y_z",
        "1.90",
        "50,000",
        "",
    ]
    assert r"\caption{Half of 100 \% is\_50}" in latex
    assert r"x \& y\_z & 1.90 & 50,000 \\" in latex
    assert r"a\_b" in latex


def write(path: Path, **values: Any) -> Path:
    path.write_text(json.dumps({"extractor": "efficientnet-lite0", "n_block": 224} | values))
    return path


def test_results_are_the_samples_metrics(tmp_path: Path):
    path = write(tmp_path / "a.json", fid_samples=3.5, fid_test=9, params_hash="f_samples")
    assert read_result(path) == (LITE, {"fid": 3.5})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "metrics.json: not found, run the stage that writes it"),
        ("{", "metrics.json: Invalid JSON"),
        ('{"extractor": "x"}', "metrics.json: n_block: Field required"),
    ],
)
def test_broken_results_are_refused(tmp_dir: Path, content: str | None, message: str):
    if content is not None:
        (tmp_dir / "metrics.json").write_text(content)
    with pytest.raises(PatchDMError) as error:
        read_result(Path("metrics.json"))
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "r.csv: cannot be read: No such file"),
        ("", "r.csv: not a table: No columns"),
        ("size,mode\n", "r.csv: found no column machine, memory_mib, network"),
    ],
)
def test_broken_benchmarks_are_refused(tmp_dir: Path, content: str | None, message: str):
    if content is not None:
        (tmp_dir / "r.csv").write_text(content)
    with pytest.raises(PatchDMError, match=message):
        read_resolutions(Path("r.csv"))
