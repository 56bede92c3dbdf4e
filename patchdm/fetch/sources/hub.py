"""A data set of the Hugging Face hub: image files, or archives or parquet files of images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path, PurePosixPath
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.errors import HFValidationError, HTTPError  # type: ignore[attr-defined]
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils._headers import build_hf_headers
from urllib3.exceptions import ProtocolError

from patchdm.config.data import Data
from patchdm.errors import PatchDMError, one_line
from patchdm.fetch import transfer
from patchdm.fetch.archives import members, unpack
from patchdm.fetch.arrival import MAX_BYTES
from patchdm.fetch.names import PassedOver
from patchdm.fetch.sources.archive import download
from patchdm.fetch.sources.listing import Listed, Listing, Workspace, at_once, one_by_one
from patchdm.formats.images import SUFFIXES

_PARQUET = ".parquet"
_HOLDERS = (_PARQUET, ".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_ROWS = 16

_Result = TypeVar("_Result")


@contextmanager
def open_listing(data: Data, workspace: Workspace) -> Iterator[Listing]:
    """Yield the image files of a data set, in the order of their paths.

    Without image files: the images in its archives and parquet files, which are downloaded first.
    """
    token = False if data.credentials == "anonymous" else None
    commit, files = _patiently(partial(_list, data, token), data.location)

    url_of = partial(
        hf_hub_url, data.location, repo_type="dataset", revision=commit, endpoint=data.endpoint
    )
    passed_over = PassedOver()
    images = [file for file in files if passed_over.takes(file.path)]
    holders = [file for file in files if file.path.endswith(_HOLDERS)]
    with transfer.open_session(workspace.transfers) as session:
        session.headers.update(build_hf_headers(token=token))
        if images:
            get = partial(transfer.transfer, session, limit=MAX_BYTES)
            photographs = [
                Listed(file.path, url, url, partial(get, url), file.blob_id, sha256=_sha256(file))
                for file in images
                for url in [url_of(file.path)]
            ]
            yield at_once(photographs, workspace, passed_over)
        elif holders:
            here = list[Path]()

            def get_whole(file: RepoFile) -> Path:
                return download(session, url_of(file.path), _sha256(file), workspace.state)

            with (
                ThreadPool(workspace.transfers) as pool,
                workspace.progress("download", len(holders), "files") as show,
            ):
                for path in pool.imap(get_whole, holders):
                    here.append(path)
                    show(len(here))
            passed_over = PassedOver()
            total = sum(1 for _ in _inside(data.location, holders, here, passed_over))
            inside = _inside(data.location, holders, here, PassedOver())
            yield one_by_one(inside, total, workspace, passed_over)
        else:
            raise PatchDMError(f"{data.location}: found neither images nor archives or parquet")


def _list(data: Data, token: bool | None) -> tuple[str, list[RepoFile]]:
    """Return the commit, and its files in the order of their paths."""
    api = HfApi(endpoint=data.endpoint, token=token)
    commit = data.pin or api.dataset_info(data.location).sha
    tree = api.list_repo_tree(data.location, recursive=True, revision=commit, repo_type="dataset")
    files = sorted((f for f in tree if isinstance(f, RepoFile)), key=lambda file: file.path)
    return commit or "main", files


def _patiently(request: Callable[[], _Result], name: str) -> _Result:
    """Ask the hub until it answers, refuses, or all pauses of `RETRY` are over."""
    retry = transfer.RETRY.new(total=transfer.RETRY.connect)
    while True:
        try:
            return request()
        except (HTTPError, HFValidationError, OSError, ValueError, KeyError) as error:
            # ValueError, KeyError: an answer that is not the hub's
            line = one_line(error)[:300]
            response = getattr(error, "response", None)
            final = response is not None and response.status_code not in transfer.TRANSIENT
            if final or not isinstance(error, HTTPError) or not retry.total:
                raise PatchDMError(f"{name}: cannot be listed: {line}") from None
            retry = retry.increment("GET", name, error=ProtocolError(line))
            retry.sleep()


def _sha256(file: RepoFile) -> str | None:
    return file.lfs.sha256 if file.lfs else None


def _inside(
    location: str, holders: list[RepoFile], files: list[Path], passed_over: PassedOver
) -> Iterator[Listed]:
    """Yield the images in archives and parquet files; a name starts with that of its file."""
    for holder, file in zip(holders, files, strict=True):
        shown = f"{location}/{holder.path}"
        suffix = next(suffix for suffix in _HOLDERS if holder.path.endswith(suffix))
        folder = holder.path.removesuffix(suffix)
        inside: Iterable[tuple[str, Callable[..., None]]] = (
            _rows(file, shown)
            if suffix == _PARQUET
            else ((one.name, partial(unpack, one)) for one in members(file, shown, passed_over))
        )
        for image, fetch in inside:
            name = f"{shown}/{image}"
            yield Listed(f"{folder}/{image}", name, name, partial(fetch, name=name), holder.blob_id)


def _rows(file: Path, shown: str) -> Iterator[tuple[str, Callable[..., None]]]:
    """Yield name and content of the images in a parquet file's first column of encoded images."""
    try:
        table = pq.ParquetFile(file)
        column = next((f.name for f in table.schema_arrow if _holds_images(f.type)), None)
        if column is None:
            raise PatchDMError(f"{shown}: found no column of encoded images")
        number = 0
        for batch in table.iter_batches(_ROWS, columns=[column]):
            for cell in batch.column(0).to_pylist():
                image = cell if isinstance(cell, dict) else {"bytes": cell}
                suffix = PurePosixPath(image.get("path") or "").suffix.lower()
                name = f"{number:08}{suffix if suffix in SUFFIXES else ''}"
                yield name, partial(_write, image["bytes"])
                number += 1
    except (pa.ArrowException, OSError) as error:
        raise PatchDMError(f"{shown}: no readable parquet: {one_line(error)[:200]}") from None


def _holds_images(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(f.name == "bytes" and pa.types.is_binary(f.type) for f in kind)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _write(content: bytes | None, path: Path, name: str) -> None:
    if content is None:
        raise PatchDMError(f"{name}: found no bytes")
    path.write_bytes(content)
