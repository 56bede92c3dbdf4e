"""Shards of samples go round the GPUs of a host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from patchdm.formats import shards
from pipelines import sample_at_scale as module
from pipelines import tasks


@pytest.mark.usefixtures("prefect_api")
@pytest.mark.parametrize("gpus", [0, 2])
def test_each_shard_has_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: int):
    said: list[tuple[str, list[str]]] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(module, "load_params", lambda _: None)
    monkeypatch.setattr(module, "show_estimate", lambda *_, **__: None)
    monkeypatch.setattr(tasks, "talk", lambda name, command, _: said.append((name, command)))
    manifest = pd.DataFrame({"shard": ["000000"]})
    monkeypatch.setattr(shards, "read_manifest", lambda _: manifest)
    (tmp_path / "out").mkdir()
    place: Any = module.Place(concurrency=1)
    module.sample_at_scale(seeds="4:16", out="out", shards=4, place=place)
    names = ["000004", "000007", "000010", "000013"]
    assert [name for name, _ in said] == 2 * names
    devices = [command[command.index("--device") + 1 :] for _, command in said[:4] if gpus]
    assert devices == [["cuda:0"], ["cuda:1"], ["cuda:0"], ["cuda:1"]][: 2 * gpus]
    whole = said[4:] if gpus else said
    assert not any("--device" in command for _, command in whole)  # all GPUs help to repair
