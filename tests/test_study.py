"""`make study` on tiny images: two variants at one seed."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pandas as pd
import pytest

from stages._common import PARAMS
from tests.stages.models import write_params
from tests.stages.tiny import tiny_params
from tests.test_smoke import commit, copy_repository, run


@pytest.mark.slow
def test_make_study(tmp_path: Path):
    copy_repository(tmp_path)
    tiny = tiny_params(ablation={"variants": ["full", "no-code"], "seeds": [0]})
    write_params(tmp_path / "presets/study.yaml", tiny)
    commit(tmp_path)
    (tmp_path / ".venv").symlink_to(Path(sys.prefix))
    before = (tmp_path / PARAMS).read_bytes()
    make = ["bash", "-c", "make --old-file .venv/installed study 2>&1"]
    assert "Running stage 'ablate_evaluate@no-code-0'" in run(tmp_path, *make)

    study = tmp_path / "reports/study"
    read = {path.stem: json.loads(path.read_text()) for path in study.rglob("*.json")}
    assert read["full-0"]["fid_samples"] == read["metrics"]["fid_samples"]
    assert read["no-code-0"]["fid_samples"] != read["metrics"]["fid_samples"]
    assert "dirty" not in read["metrics"]["git_revision"]
    ablation = pd.read_csv(study / "paper/ablation.csv", index_col="variant")
    assert set(ablation.index[ablation["seeds"] == 1]) == {"full", "no-code"}
    assert (study / "dvc.lock").is_file()
    assert (tmp_path / PARAMS).read_bytes() == before
    assert not (tmp_path / "data/models").exists()

    assert not re.findall("Running stage '(.+?)'", run(tmp_path, *make))
