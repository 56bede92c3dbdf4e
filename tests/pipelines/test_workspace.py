"""A preset beside params.yaml: its clone, what it shares, and what stays as it was."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from patchdm.config import load_params
from patchdm.errors import PatchDMError
from pipelines.errors import FlowError
from pipelines.evaluate_ablations import evaluate_ablations
from pipelines.reproduce import reproduce
from pipelines.workspace import preset_params, publish, published, workspace
from tests.conftest import REPO
from tests.pipelines import toy


def ran(folder: Path) -> list[str]:
    """Bring a toy repository up to date; return the stages that ran."""
    toy.run(folder, "dvc", "repro")
    log = folder / "log"
    return [line.split()[1] for line in log.read_text().splitlines()[::2]] if log.exists() else []


def test_the_clone_has_params_of_its_own_and_the_repository_stays(toy_repo: Path):
    before = {name: (toy_repo / name).read_bytes() for name in ("params.yaml", "dvc.yaml")}
    with workspace(toy_repo, "other", "x: 2\n") as folder:
        assert folder == toy_repo / ".state/other"
        assert "a" in ran(folder)
        assert (folder / "a.txt").read_text() == "x: 2\n"
    assert not (toy_repo / "a.txt").exists()
    assert not (toy_repo / "dvc.lock").exists()
    assert {name: (toy_repo / name).read_bytes() for name in before} == before


def test_what_has_run_in_the_repository_does_not_run_again(toy_repo: Path):
    assert ran(toy_repo) == ["a", "b-one", "b-two"]
    with workspace(toy_repo, "same", "x: 1\n") as folder:
        assert ran(folder) == []
        assert (folder / "b-two.txt").read_text() == "x: 1\n"


def test_it_follows_the_commit_and_keeps_what_it_has_run(toy_repo: Path):
    with workspace(toy_repo, "other", "x: 2\n") as folder:
        ran(folder)
        locked = (folder / "dvc.lock").read_bytes()
        (folder / "log").unlink()
    (toy_repo / "new.txt").write_text("new")
    toy.commit(toy_repo)
    with workspace(toy_repo, "other", "x: 2\n") as folder:
        assert (folder / "new.txt").read_text() == "new"
        assert (folder / "dvc.lock").read_bytes() == locked
        assert ran(folder) == []


def test_it_knows_remotes_that_only_this_host_has(toy_repo: Path, tmp_path: Path):
    toy.run(toy_repo, "dvc", "remote", "add", "--local", "--default", "near", str(tmp_path / "far"))
    toy.run(toy_repo, "dvc", "config", "--local", "cache.dir", str(tmp_path / "cache"))
    with workspace(toy_repo, "other", "x: 2\n") as folder:
        assert str(tmp_path / "far") in toy.run(folder, "dvc", "remote", "list")
        assert toy.run(folder, "dvc", "cache", "dir").strip() == str(tmp_path / "cache")
        assert "near" in toy.run(folder, "dvc", "config", "core.remote")


def test_it_has_the_photographs_that_a_user_put_there(toy_repo: Path):
    (toy_repo / "data/sources/mine").mkdir(parents=True)
    (toy_repo / "data/.gitignore").write_text("/sources\n")
    (toy_repo / "data/sources/mine/a.png").touch()
    toy.commit(toy_repo)
    for _ in range(2):
        with workspace(toy_repo, "other", "x: 2\n") as folder:
            assert (folder / "data/sources/mine/a.png").is_file()
    assert (toy_repo / "data/sources/mine/a.png").is_file()


def test_results_are_published_unless_something_fails(
    toy_repo: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("pipelines.workspace.get_run_logger", logging.getLogger)
    with pytest.raises(FlowError), published(toy_repo, "other", "x: 2\n"):
        raise FlowError("a stage failed")
    assert not (toy_repo / "reports").exists()
    with published(toy_repo, "other", "x: 2\n"):
        pass
    assert (toy_repo / "reports/other/params.yaml").read_text() == "x: 2\n"


@pytest.mark.usefixtures("prefect_api")
def test_a_preset_is_reproduced_beside_params_yaml(toy_repo: Path):
    (toy_repo / "presets").mkdir()
    text = (REPO / "presets/smoke.yaml").read_text()
    (toy_repo / "presets/other.yaml").write_text(text + "# mine\n")
    (toy_repo / "dvc.yaml").write_text(toy.STAGES.replace("[x]", "[base.seed]"))
    toy.commit(toy_repo)
    reproduce(preset="other", up_to=["a"])
    assert (toy_repo / "reports/other/params.yaml").read_text().endswith("# mine\n")
    assert (toy_repo / ".state/other/a.txt").is_file()
    assert not (toy_repo / "a.txt").exists()


@pytest.mark.usefixtures("prefect_api")
@pytest.mark.slow
def test_what_ran_on_another_host_comes_from_the_remote(toy_repo: Path, tmp_path: Path):
    (toy_repo / "presets").mkdir()
    (toy_repo / "presets/other.yaml").write_bytes((REPO / "presets/smoke.yaml").read_bytes())
    (toy_repo / "params.yaml").write_bytes((REPO / "presets/smoke.yaml").read_bytes())
    (toy_repo / "dvc.yaml").write_text(toy.STAGES.replace("[x]", "[base.seed]"))
    toy.run(toy_repo, "dvc", "remote", "add", "--default", "far", str(tmp_path / "far"))
    toy.commit(toy_repo)
    assert ran(toy_repo) == ["a", "b-one", "b-two"]
    toy.run(toy_repo, "dvc", "push", "--run-cache")
    shutil.rmtree(toy_repo / ".dvc/cache")
    reproduce(preset="other")
    other = toy_repo / ".state/other"
    assert (other / "b-two.txt").read_bytes() == (toy_repo / "b-two.txt").read_bytes()
    assert not (other / "log").exists()


def test_a_killed_clone_is_made_anew(toy_repo: Path):
    (toy_repo / ".state/.other.partial").mkdir(parents=True)
    with workspace(toy_repo, "other", "x: 2\n") as folder:
        assert (folder / "dvc.yaml").is_file()


def test_two_flows_do_not_share_it(toy_repo: Path):
    with (
        workspace(toy_repo, "other", "x: 2\n"),
        pytest.raises(FlowError, match="another flow works there"),
        workspace(toy_repo, "other", "x: 3\n"),
    ):
        pass


def test_without_a_repository_it_says_so(tmp_path: Path):
    with pytest.raises(FlowError, match="git"), workspace(tmp_path, "other", "x: 2\n"):
        pass


def test_results_replace_their_like_alone(tmp_path: Path):
    folder, place = tmp_path / "run", tmp_path / "reports/study"
    (folder / "reports/tables").mkdir(parents=True)
    (folder / "reports/tables/new.csv").touch()
    (folder / "params.yaml").write_text("x: 2\n")
    (place / "tables").mkdir(parents=True)
    (place / "tables/old.csv").touch()
    (place / "notes.txt").write_text("mine")
    publish(folder, place)
    found = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
    assert found == {"tables/new.csv", "params.yaml", "notes.txt"}


def test_presets_are_checked_with_their_changes(tmp_path: Path):
    text, params = preset_params(REPO, "study", {"seeds": [3, 4, 5]})
    assert params.ablation.seeds == [3, 4, 5]
    (tmp_path / "params.yaml").write_text(text)
    assert load_params(tmp_path / "params.yaml") == params
    _, as_it_is = preset_params(REPO, "study", {})
    assert as_it_is == load_params(REPO / "presets/study.yaml")
    with pytest.raises(FlowError, match="preset is 'mine', expected .*study"):
        preset_params(REPO, "mine", {})
    with pytest.raises(PatchDMError, match=r"ablation\.variants"):
        preset_params(REPO, "study", {"variants": ["half"]})


@pytest.mark.usefixtures("prefect_api", "toy_repo")
@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"preset": "demo"}, "presets/demo.yaml: ablation.variants is empty"),
        ({"preset": "none"}, "preset is 'none', expected demo"),
        ({"preset": None, "seeds": [1]}, "preset is null: params.yaml has the seeds"),
    ],
    ids=str,
)
def test_what_cannot_be_evaluated_is_refused_before_anything_starts(
    toy_repo: Path, parameters: dict[str, object], message: str
):
    (toy_repo / "presets").mkdir()
    for file in (REPO / "presets").glob("*.yaml"):
        (toy_repo / "presets" / file.name).write_bytes(file.read_bytes())
    with pytest.raises(FlowError, match=message):
        evaluate_ablations(**parameters)
    assert not (toy_repo / ".state").exists()
