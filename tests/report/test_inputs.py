from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from patchdm.errors import PatchDMError
from patchdm.files import sha256
from patchdm.formats.images import save_png
from patchdm.models.build import build_code, build_latent, build_unet
from patchdm.report.inputs import (
    Metrics,
    count_parameters,
    read_authors,
    read_curves,
    read_frame,
    read_metrics,
    read_sheets,
    read_table,
    read_weights,
)
from patchdm.report.parts import Table
from patchdm.report.tables.build import ABLATION, CAPTIONS
from patchdm.report.tables.write import read_words, write_tables
from tests.report.runs import METRICS_VALUES
from tests.stages.tiny import tiny_params


def test_metrics_are_read_and_more_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(METRICS_VALUES | {"sfid_samples": 3.0}))
    metrics = read_metrics(path, Metrics)
    assert (metrics.fid_samples, metrics.n_test) == (20.0, 3)


def test_a_table_comes_back_as_it_was_written(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"variant": ["full", "no-code"], "FID": [1234.5, None], "seeds": [8, None]}
    )
    write_tables(tmp_path, {"ablation": frame})
    rows = [["full", "1,234.50", "8"], ["no-code", "", ""]]
    found = read_words(tmp_path, "ablation", "ffhq256")
    assert found == Table(CAPTIONS["ablation"], ["variant", "FID", "seeds"], rows)
    markdown = (tmp_path / "ablation.md").read_text()
    assert markdown.startswith(f"{found.caption}\n\n| variant ")
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in markdown.splitlines()[4:]]
    assert cells == rows


def test_the_page_shows_the_paper_next_to_its_own_data_alone(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"variant": ["full"], "paper FID": [37.99], "tag": ["2nd"], "FID (x)": [1.5],
         "FID std": [0.5], "extractor": ["x"], "n": [8], "seeds": [2], "tolerance": [1.0]}
    )  # fmt: skip
    write_tables(tmp_path, {"ablation": frame})
    own = read_words(tmp_path, "ablation", "mine")
    assert own == Table(ABLATION, ["variant", "FID (x)", "seeds"], [["full", "1.50 ± 0.5", "2"]])
    papers = read_words(tmp_path, "ablation", "ffhq256")
    assert papers.header == ["variant", "paper FID", "tag", "FID (x)", "seeds"]


def test_curves_are_read_whole(tmp_path: Path) -> None:
    (tmp_path / "loss.tsv").write_text("step\tloss\n16\t2.5\n32\t1e-3\n")
    (tmp_path / "extra.tsv").write_text("step\textra\n16\tnan\n")
    curves = read_curves(tmp_path, ["loss"])
    assert curves["loss"].to_dict() == {16: 2.5, 32: 1e-3}
    assert curves["extra"].isna().all()


def test_of_many_sheets_first_last_and_some_between_are_shown(tmp_path: Path) -> None:
    for seen in range(1, 12):
        save_png(tmp_path / f"{seen * 1000:09d}.png", np.full((2, 3, 3), seen, np.uint8))
    sheets = read_sheets(tmp_path, 6)
    assert list(sheets) == [1000, 3000, 5000, 7000, 9000, 11000]
    assert all((sheet == seen // 1000).all() for seen, sheet in sheets.items())
    assert len(read_sheets(tmp_path, 20)) == 11


@pytest.mark.parametrize("code", ["table", "encoder"])
def test_parameters_are_counted_without_what_is_measured(tmp_path: Path, code: str) -> None:
    params = tiny_params(model={"code": code})
    networks = (
        build_unet(params.model),
        build_code(params.model, 18),
        build_latent(params.latent, 16),
    )
    for number, network in enumerate(networks):
        network.save_pretrained(tmp_path / str(number))
        assert count_parameters(tmp_path / str(number)) == network.num_parameters()
    assert count_parameters(tmp_path) == sum(network.num_parameters() for network in networks)


def test_weights_are_counted_without_loading(tmp_path: Path) -> None:
    latent = build_latent(tiny_params().latent, 16)
    latent.save_pretrained(tmp_path / "latent_model")
    (weights,) = read_weights(tmp_path)
    assert weights.name == "latent model"
    assert (
        weights.count
        == latent.num_parameters()
        < sum(map(torch.numel, latent.state_dict().values()))
    )
    assert weights.sha256 == sha256(
        tmp_path / "latent_model" / "diffusion_pytorch_model.safetensors"
    )


def _file(name: str, content: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(content)


@pytest.mark.parametrize(
    ("read", "write", "message"),
    [
        (lambda d: read_metrics(d / "m.json", Metrics), None, "m.json: not found, run"),
        (
            lambda d: read_metrics(d / "m.json", Metrics),
            _file("m.json", '{"fid_'),
            "m.json: Invalid JSON",
        ),
        (
            lambda d: read_metrics(d / "m.json", Metrics),
            _file("m.json", "{}"),
            "m.json: fid_samples: Field",
        ),
        (lambda d: read_table(d / "m.csv"), None, "m.csv: not found, run"),
        (lambda d: read_table(d / "m.csv"), _file("m.csv", ""), "m.csv: not a table"),
        (lambda d: read_table(d / "m.csv"), _file("m.csv", "a,b\n1,2\n"), "m.csv: not a table"),
        (lambda d: read_table(d / "m.csv"), _file("m.csv", "set,n\na,b\n"), "m.csv: not a table"),
        (lambda d: read_table(d / "m.csv"), _file("m.csv", "set,n,FID-X\n"), "m.csv: found no row"),
        (lambda d: read_table(d / "m.csv"), _file("m.csv", "set,n\na,2\n"), "m.csv: found no col"),
        (lambda d: read_frame(d / "n.csv", ["a"]), None, "n.csv: not found, run"),
        (lambda d: read_frame(d / "n.csv", ["a"]), _file("n.csv", ""), "n.csv: not a table: No"),
        (lambda d: read_frame(d / "n.csv", ["a", "b"]), _file("n.csv", "a\n1\n"), "no column b"),
        (lambda d: read_frame(d / "n.csv", ["a"]), _file("n.csv", "a\n"), "n.csv: found no rows"),
        (lambda d: read_words(d, "quality", "mine"), None, "quality.csv: not found, run"),
        (
            lambda d: read_words(d, "quality", "mine"),
            _file("quality.csv", ""),
            "quality.csv: not a table",
        ),
        (
            lambda d: read_words(d, "quality", "mine"),
            _file("quality.csv", "a\n"),
            "quality.csv: found no r",
        ),
        (lambda d: read_curves(d, ["loss"]), None, "loss.tsv: not found, run"),
        (lambda d: read_curves(d, []), _file("x.tsv", "step\ty\n1\t2\n"), "x.tsv: not a training"),
        (lambda d: read_curves(d, []), _file("x.tsv", "step\tx\n1\tno\n"), "x.tsv: not a training"),
        (lambda d: read_curves(d, []), _file("x.tsv", "step\tx\n"), "x.tsv: found no points"),
        (lambda d: read_sheets(d, 6), None, "found no sheets of samples, run"),
        (lambda d: read_sheets(d, 6), _file("last.png", ""), "last.png: found this name, expected"),
        (lambda d: read_sheets(d, 6), _file("0100.png", "text"), "0100.png: found no image"),
        (read_weights, None, "found no weights, run"),
        (read_weights, _file("a.safetensors", "text"), "a.safetensors: damaged weights"),
    ],
)
def test_bad_input_is_named_in_one_line(
    tmp_path: Path, read: Callable[[Path], Any], write: Callable[[Path], None] | None, message: str
) -> None:
    if write:
        write(tmp_path)
    with pytest.raises(PatchDMError, match=message) as error:
        read(tmp_path)
    assert "\n" not in str(error.value)


def test_authors_of_a_folder_are_in_its_credits(tmp_path: Path):
    assert read_authors(tmp_path) == {}
    (tmp_path / "credits.csv").write_text("file,author,licence\na/x.jpg,Ada,CC0-1.0\ny.jpg,,\n")
    assert read_authors(tmp_path) == {"a/x.jpg": "Ada", "y.jpg": ""}
