"""A finished run is pushed, and a fresh clone pulls its report without computing."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import clones, tasks
from pipelines.errors import FlowError
from tests.pipelines import s3, toy

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3.S3]:
    with s3.serve(tmp_path_factory.mktemp("s3") / "data") as bucket:
        yield bucket


@pytest.fixture
def credentials(bucket: s3.S3, monkeypatch: pytest.MonkeyPatch) -> s3.S3:
    for name, value in bucket.env.items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    return bucket


def push_and_pull(repo: Path, env: dict[str, str]) -> None:
    toy.run(repo, "dvc", "repro", "-q")
    toy.commit(repo)
    toy.run(repo, "dvc", "push", "-q", env=env)
    fresh = repo.with_name("fresh")
    toy.run(repo, "git", "clone", "-q", str(repo), str(fresh))
    toy.run(fresh, "dvc", "pull", "-q", env=env)
    assert (fresh / "c.json").read_bytes() == (repo / "c.json").read_bytes()
    assert (fresh / "tables/t.csv").is_file()
    (fresh / "log").unlink()
    assert "Running stage" not in toy.run(fresh, "dvc", "repro")
    assert not (fresh / "log").exists()


def test_a_folder_is_a_remote(toy_repo: Path, tmp_path: Path):
    s3.use_remote(toy_repo, str(tmp_path / "storage"))
    push_and_pull(toy_repo, toy.environment())


def test_s3_is_a_remote(toy_repo: Path, bucket: s3.S3):
    s3.use_remote(toy_repo, f"s3://{s3.BUCKET}/run", bucket.url)
    push_and_pull(toy_repo, bucket.env)
    assert s3.SECRET not in (toy_repo / ".dvc/config").read_text()


@pytest.mark.usefixtures("prefect_api", "credentials")
@pytest.mark.parametrize(
    ("remote", "secret", "message"),
    [
        (None, s3.SECRET, "no default DVC remote, other hosts need one: see docs/remotes.md"),
        ("http://127.0.0.1:9", s3.SECRET, "no access to the default DVC remote: .*127.0.0.1:9"),
        ("{url}", "wrong", "no access to the default DVC remote: .*(Forbidden|signature|denied)"),
    ],
)
def test_a_remote_that_does_not_let_us_is_one_line(
    toy_repo: Path,
    credentials: s3.S3,
    monkeypatch: pytest.MonkeyPatch,
    remote: str | None,
    secret: str,
    message: str,
):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    monkeypatch.setattr(tasks, "get_run_logger", logging.getLogger)  # outside of a run
    if remote:
        s3.use_remote(toy_repo, f"s3://{s3.BUCKET}/run", remote.format(url=credentials.url))
    with pytest.raises(FlowError, match=message) as caught:
        clones.check_remote(toy_repo, tasks.talk)
    assert "\n" not in str(caught.value)
