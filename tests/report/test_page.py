from __future__ import annotations

import io

import pandas as pd
import pytest
from ruamel.yaml import YAML

from patchdm.report.inputs import Cell, Metrics, Weights
from patchdm.report.page import render
from patchdm.report.parts import Section, Table
from tests.report.pages import Page
from tests.report.runs import METRICS_VALUES, TABLE
from tests.stages.tiny import tiny_params


def page(params=None, weights=(), sections=(), cells=None, **metrics) -> Page:
    return Page(
        render(
            params or tiny_params(),
            Metrics(**METRICS_VALUES | metrics),
            pd.read_csv(io.StringIO(TABLE), index_col="set"),
            sections,
            findings={"duplicates": 1, "quarantine": 0, "enlarged": 1_200},
            weights=weights,
            cells=cells or {},
            versions={"torch": "9.8.7"},
        )
    )


@pytest.mark.parametrize(
    ("metrics", "ratio", "verdict"),
    [
        ({"fid_samples": 20.0}, "0.40 × the 50.0", "0.5 × blurred – reached"),
        ({"fid_samples": 25.0}, "0.50 × the 50.0", "0.5 × blurred – reached"),
        ({"fid_samples": 25.6}, "0.51 × the 50.0", "0.5 × blurred – not reached"),
        ({"seam_worst_samples": 1.09}, "held-out images have 1.020", "real images – reached"),
        ({"seam_worst_samples": 0.85}, "0.850", "real images – not reached"),
        ({"seam_samples": 1.0}, "shifted 1.000 (real 1.000)", "real images – not reached"),
        ({"seam_worst_samples": float("inf")}, "inf", "real images – not reached"),
        ({"fid_blurred": 0.0}, "nan × the 0.0", "0.5 × blurred – not reached"),
    ],
)
def test_headlines_say_whether_targets_are_reached(metrics, ratio: str, verdict: str) -> None:
    text = page(**metrics).texts["numbers"]
    assert ratio in text
    assert verdict in text


def test_headlines_name_the_extractor() -> None:
    text = page().texts["numbers"]
    assert "FID-EffNetLite0 of the samples" in text
    assert "KID-EffNetLite0 of the samples" in text


def test_summary_and_provenance_hold_the_run() -> None:
    weights = [Weights("unet", 71_400_000, "b" * 64), Weights("code table", 288, "c" * 64)]
    found = page(weights=weights)
    assert "unet 71.40 M, code table 288" in found.texts[""]
    assert "4 × 2 of 8 × 8 pixels" in found.texts[""]
    assert "18 training, 3 held out" in found.texts[""]
    assert "1 look like another one, 0 could not be used, 1,200 are smaller" in found.texts[""]
    provenance = found.texts["provenance"]
    for value in ("v0-1-gabcdef", *(letter * 64 for letter in "aebcf"), "torch 9.8.7"):
        assert value in provenance


def test_provenance_names_the_networks_of_the_ablation() -> None:
    cells = {
        f"full-{seed}": Cell(**METRICS_VALUES | {"unet_weights_hash": seed * 64}) for seed in "01"
    }
    provenance = page(cells=cells).texts["provenance"]
    assert provenance.index("U-Net of full-0") < provenance.index("0" * 64)
    assert provenance.index("U-Net of full-1") < provenance.index("1" * 64)


def test_a_section_has_its_tables_and_an_empty_one_no_heading() -> None:
    hostile = "<b>caption</b>"
    table = Table(hostile, ["", "FID", "KID"], [["full", "1.5", ""], ["no-code", "", "–"]])
    sections = [
        Section(key="full", title="Some numbers", text="Of what.", tables=[table]),
        Section(key="empty", title="Nothing", text="At all."),
    ]
    found = page(sections=sections)
    assert found.tables[1] == [["", "FID"], ["full", "1.5"], ["no-code", ""]]
    assert "Some numbers" in found.texts["full"]
    assert hostile in found.texts["full"]
    assert "empty" not in found.texts
    assert [of for of in found.references if of.startswith("#")] == [
        "#numbers", "#table", "#full", "#provenance",
    ]  # fmt: skip


def test_all_parameters_are_shown_as_yaml() -> None:
    params = tiny_params()
    text = page(params).texts[""]
    shown = YAML(typ="safe").load(text[text.index("base:") :])
    assert shown == params.model_dump(mode="json")


def test_text_from_outside_cannot_become_markup() -> None:
    hostile = "<script>alert(1)</script><img src=http://example.org/x.png>"
    params = tiny_params(data={"location": hostile})
    found = page(params, git_revision=hostile, resizer=hostile)
    assert "script" not in found.tags
    assert "img" not in found.tags
    assert hostile in found.texts[""]
