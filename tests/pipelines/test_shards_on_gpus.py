"""Shards of samples go round the GPUs of a host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

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
    answers = [["damaged: 000007", "damaged: 000013"], []]

    def talk(name: str, command: list[str], _root: Path) -> list[str]:
        said.append((name, command))
        return answers.pop(0) if command[0] == "pipelines.merge" else []

    monkeypatch.setattr(tasks, "talk", talk)
    place: Any = module.Place(concurrency=1)
    module.sample_at_scale(seeds="4:16", out="out", shards=4, place=place)
    names = ["000004", "000007", "000010", "000013"]
    verify = module.FINISH
    assert [name for name, _ in said] == [*names, verify, "000007", "000013", verify]
    assert said[4][1] == ["pipelines.merge", str(tmp_path / "out"), *names]
    devices = [command[command.index("--device") + 1 :] for _, command in said[:4] if gpus]
    assert devices == [["cuda:0"], ["cuda:1"], ["cuda:0"], ["cuda:1"]][: 2 * gpus]
    whole = said[4:] if gpus else said
    assert not any("--device" in command for _, command in whole)  # all GPUs help to repair
