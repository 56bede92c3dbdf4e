"""Models of the Hugging Face hub: to its cache on this host, and from a folder to the hub.

Endpoint, cache, token and offline mode are those of huggingface_hub.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RevisionNotFoundError,
)

from patchdm.errors import PatchDMError, one_line
from patchdm.saved import CARD, INDEX, LOADED, SUMS, parts, read_index

_MOST = 300
"""Characters of an error of the hub."""


def download(repository: str, revision: str | None, **options: Any) -> Path:
    """Download a pipeline, or find it in the cache; return its folder, named by the commit.

    Only what a pipeline loads is downloaded: JSON and safetensors of its parts.

    Args:
        repository: OWNER/NAME.
        revision: a branch, tag or commit; None: the main branch.
        **options: further ones of `snapshot_download`.

    Raises:
        PatchDMError: it is unknown, private, not to be reached, or no pipeline of ours.
    """
    name = repository if revision is None else f"{repository}@{revision}"

    def snapshot(revision: str | None, files: list[str]) -> Path:
        with _refusing(name):
            return Path(
                snapshot_download(repository, revision=revision, allow_patterns=files, **options)
            )

    first = snapshot(revision, [INDEX])
    of_parts = [f"{part}/{files}" for part in parts(read_index(first, name)) for files in LOADED]
    return snapshot(first.name, [INDEX, SUMS, *of_parts])


def upload(folder: Path, repository: str, *, private: bool, branch: str | None) -> str:
    """Upload a saved pipeline and its card; return the URL of the commit.

    Args:
        repository: OWNER/NAME, created if it does not exist.
        private: whether it is then.
        branch: of the commit, created if it does not exist; None: the main one.

    Raises:
        PatchDMError: the hub refuses it, or is not to be reached.
    """
    api = HfApi()
    with _refusing(repository):
        api.create_repo(repository, private=private, exist_ok=True)
        if branch is not None:
            api.create_branch(repository, branch=branch, exist_ok=True)
        return api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            revision=branch,
            commit_message="Upload a PatchDMPipeline",
            allow_patterns=[CARD, SUMS, *LOADED],
        ).commit_url


@contextlib.contextmanager
def _refusing(name: str) -> Iterator[None]:
    """Say on one line what the hub answers about a model."""
    try:
        yield
    except (HTTPError, OSError, ValueError, KeyError) as error:
        # ValueError, KeyError: a name that is none, an answer that is not the hub's
        if isinstance(error, OSError) and error.errno:  # of this host's disk
            raise
        raise PatchDMError(f"{name}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    missing = isinstance(error, LocalEntryNotFoundError)
    cause = (error.__cause__ or error) if missing else error
    status = getattr(getattr(cause, "response", None), "status_code", None)
    if isinstance(cause, RevisionNotFoundError):
        return "found no such revision of it on the hub"
    if status == 404:
        return "found neither such a folder nor such a model of the hub (HTTP 404)"
    if status in {401, 403}:
        return (
            f"found HTTP {status}, expected an existing model that all may read, or a token of "
            "the hub that permits this (`hf auth login`)"
        )
    if isinstance(cause, OfflineModeIsEnabled):
        return "found none in the hub's cache, expected one or HF_HUB_OFFLINE=0"
    text = (f"found HTTP {status}: " if status else "") + one_line(cause)[:_MOST]
    return f"found none in the hub's cache, and no answer of the hub: {text}" if missing else text
