from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from pipelines.errors import FlowError, TransientError
from pipelines.graph import read_graph
from tests.conftest import REPO
from tests.pipelines import toy


def test_stages_come_upstream_first_with_what_they_read_and_write(toy_repo: Path):
    graph = read_graph(toy_repo)
    assert list(graph.stages) == ["a", "b@one", "b@two", "c"]
    assert graph.stages["c"].upstream == ("b@one", "b@two")
    assert [(out.path, out.metric) for out in graph.stages["c"].outs] == [
        ("tables", False),
        ("c.json", True),
    ]
    assert graph.stale == set(graph.stages)


def test_what_lies_downstream_of_a_changed_stage_is_stale(toy_repo: Path):
    toy.run(toy_repo, "dvc", "repro", "-q")
    assert read_graph(toy_repo).pending == []
    (toy_repo / "b-one.txt").unlink()
    assert read_graph(toy_repo).stale == {"b@one", "c"}
    (toy_repo / "params.yaml").write_text("x: 2\n")
    assert [stage.name for stage in read_graph(toy_repo, ["b"]).pending] == ["a", "b@one", "b@two"]


def test_a_stage_includes_the_stages_it_reads_from(toy_repo: Path):
    assert list(read_graph(toy_repo, ["b@two"]).stages) == ["a", "b@two"]
    assert list(read_graph(toy_repo, ["b"]).stages) == ["a", "b@one", "b@two"]


def test_meta_asks_for_a_gpu(tmp_path: Path):
    stages = "stages:\n  a:\n    cmd: echo > a\n    outs: [a]\n    meta: {gpu: true}\n"
    graph = read_graph(toy.make(tmp_path / "gpu", stages))
    assert graph.stages["a"].gpu


def test_stages_that_use_a_gpu_say_so():
    stages = YAML(typ="safe").load(REPO / "dvc.yaml")["stages"]
    marked = {name for name, stage in stages.items() if stage.get("meta") == {"gpu": True}}
    code = {name: (REPO / f"stages/{name}.py").read_text() for name in stages}
    users = {
        name
        for name, text in code.items()
        if re.search(r"device_for|cuda|Accelerator\(|stages\._training", text)
    }
    # The stages of the ablation call those.
    assert marked == users | {"ablate_train", "ablate_evaluate", "ablate_sample"}


def test_an_unknown_stage_is_named_with_those_there_are(toy_repo: Path):
    with pytest.raises(FlowError, match=r"dvc.yaml: no stage 'trane', expected a, b, c$"):
        read_graph(toy_repo, ["trane"])


def test_no_repository_and_a_folder_inside_one_are_refused(toy_repo: Path, tmp_path: Path):
    with pytest.raises(FlowError, match="not a DVC repository, run in the root of one$"):
        read_graph(tmp_path)
    inside = toy_repo / "inside"
    inside.mkdir()
    with pytest.raises(FlowError, match=f"not the root of a DVC repository, run in {toy_repo}$"):
        read_graph(inside)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("dvc.yaml", "stages:\n  a: [", "dvc.yaml"),
        ("dvc.yaml", "stages:\n  a:\n    outs: [a]\n", "dvc.yaml"),
        ("dvc.lock", "schema: nonsense", "dvc.lock"),
        (".dvc/config", "[core\n", "config"),
        (".dvc/tmp/rwlock", "{", "rwlock"),
    ],
)
def test_a_broken_repository_is_one_line(toy_repo: Path, name: str, content: str, message: str):
    (toy_repo / name).write_text(content)
    with pytest.raises(FlowError, match=re.escape(message)) as caught:
        read_graph(toy_repo)
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, TransientError)


def test_a_locked_repository_may_be_tried_again(toy_repo: Path):
    with (
        Repo(str(toy_repo)) as repo,
        repo.lock,
        pytest.raises(TransientError, match="another DVC command holds the lock"),
    ):
        read_graph(toy_repo)


def test_a_stage_that_runs_elsewhere_may_be_tried_again(toy_repo: Path):
    writer = {str(toy_repo / "a.txt"): {"pid": os.getppid(), "cmd": "dvc repro"}}
    (toy_repo / ".dvc/tmp/rwlock").write_text(json.dumps({"write": writer}))
    with pytest.raises(TransientError, match=r"'.*a.txt' is busy"):
        read_graph(toy_repo)


ALWAYS = """\
stages:
  check:
    cmd: exec python -m stages.check
    always_changed: true
    outs: [data/source.json]
  a:
    cmd: echo > a
    deps: [data/source.json]
    outs: [a]
"""


@pytest.fixture
def looking_repo(tmp_path: Path) -> Path:
    """A repository with a stage that DVC always runs, and a folder of photographs."""
    params = (REPO / "presets/smoke.yaml").read_text()
    params = re.sub("source: .*", "source: folder", params, count=1)
    repo = toy.make(
        tmp_path / "toy", ALWAYS, re.sub("location: .*", "location: mine", params, count=1)
    )
    (repo / "mine").mkdir()
    toy.run(repo, "dvc", "repro", "-q")
    return repo


def test_a_stage_that_always_runs_is_stale_only_if_its_output_changes(looking_repo: Path):
    assert read_graph(looking_repo).pending == []
    (looking_repo / "mine/a.jpg").write_text("new")
    assert read_graph(looking_repo).stale == {"check", "a"}
    toy.run(looking_repo, "dvc", "repro", "-q")
    assert read_graph(looking_repo).pending == []


def test_a_stage_that_refuses_is_the_flows_error(looking_repo: Path):
    (looking_repo / "data/raw").mkdir(parents=True)
    (looking_repo / "data/raw/mine.jpg").write_text("mine")
    with pytest.raises(FlowError, match="check: data/raw/mine.jpg: found a file that no stage"):
        read_graph(looking_repo)
