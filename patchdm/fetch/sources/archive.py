"""An archive of images, on this disk or at a URL."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from requests import Session

from patchdm.config.data import Data, is_url
from patchdm.errors import PatchDMError
from patchdm.fetch.archives import members, unpack
from patchdm.fetch.names import PassedOver
from patchdm.fetch.sources.listing import Listed, Listing, Workspace, one_by_one
from patchdm.fetch.transfer import Report, open_session, transfer, unseen
from patchdm.files import sha256


@contextmanager
def open_listing(data: Data, workspace: Workspace) -> Iterator[Listing]:
    """Yield every photograph of an archive, in its order."""
    file = local_file(data, workspace)
    with dropped_if_bad(file, workspace):
        passed_over = PassedOver()
        total = sum(1 for _ in members(file, data.location, passed_over))
        if not total:
            found = str(passed_over) or "it is empty"
            raise PatchDMError(f"{data.location}: found no image in it, {found}")
    yield one_by_one(_photographs(data, file), total, workspace, passed_over)


def _photographs(data: Data, file: Path) -> Iterator[Listed]:
    shown = data.location if is_url(data.location) else file.name
    version = f"{data.pin} {file.stat().st_size} {file.stat().st_mtime_ns}"
    for member in members(file, data.location):
        name = f"{data.location}/{member.name}"
        fetch = partial(unpack, member, name=name)
        yield Listed(member.name, name, f"{shown}/{member.name}", fetch, version)


def local_file(data: Data, workspace: Workspace) -> Path:
    """Return the pinned file of `data.location`, downloaded if that is a URL."""
    if is_url(data.location):
        with open_session(1) as session, ExitStack() as stack:
            bar: list[Callable[[int], None]] = []

            def report(done: int, total: int | None) -> None:
                if not bar:  # only now the total is known
                    show = workspace.progress("download", (total or 0) >> 20, "MiB")
                    bar.append(stack.enter_context(show))
                bar[0](done >> 20)

            return download(session, data.location, data.pin, workspace.state, report)
    file = workspace.root / data.location
    if not file.is_file():
        raise PatchDMError(f"{data.location}: data.location is no file")
    _check_pin(data.location, file, data.pin)
    return file


def download(
    session: Session, url: str, pin: str | None, state: Path, report: Report = unseen
) -> Path:
    """Download a file of any size and SHA-256 `pin` to the state folder, unless it is there."""
    file = state / hashlib.sha256(f"{url}\0{pin}".encode()).hexdigest()[:32]
    if not file.exists():
        part = file.with_suffix(".part")
        transfer(session, url, part, limit=None, report=report)
        try:
            _check_pin(url, part, pin)
        except PatchDMError:
            part.unlink()
            raise
        part.rename(file)
    return file


@contextmanager
def dropped_if_bad(file: Path, workspace: Workspace) -> Iterator[None]:
    """Remove a file from the state folder if it cannot be read: the next call downloads it."""
    try:
        yield
    except PatchDMError:
        if workspace.state in file.parents:
            file.unlink(missing_ok=True)
        raise


def _check_pin(name: str, file: Path, pin: str | None) -> None:
    if pin is not None and (found := sha256(file)) != pin:
        raise PatchDMError(f"{name}: found sha256 {found}, expected {pin}")
