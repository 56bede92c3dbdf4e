"""An archive of images, on this disk or at an address."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from requests import Session

from patchdm.config.data import Data, is_address
from patchdm.errors import PatchDMError
from patchdm.fetch.archives import Member, members, unpack
from patchdm.fetch.names import PassedOver
from patchdm.fetch.sources.listing import Item, Listing, Place, one_by_one
from patchdm.fetch.transfer import open_session, transfer
from patchdm.files import sha256


@contextmanager
def open_archive(data: Data, place: Place) -> Iterator[Listing]:
    """Yield every photograph of an archive, in its order.

    Raises:
        PatchDMError: it cannot be had, is not the pinned one, is damaged, or holds no image.
    """
    file = local_file(data, place)
    shown = data.location if is_address(data.location) else file.name
    with dropped_if_bad(file, place):
        passed_over = PassedOver()
        total = sum(1 for _ in members(file, data.location, passed_over))
        if not total:
            found = str(passed_over) or "it is empty"
            raise PatchDMError(f"{data.location}: found no image in it, {found}")
    version = f"{data.pin} {file.stat().st_size} {file.stat().st_mtime_ns}"
    items = (
        _item(data.location, shown, version, member) for member in members(file, data.location)
    )
    yield one_by_one(items, total, place, passed_over)


def local_file(data: Data, place: Place) -> Path:
    """Return the file of `data.location`, downloaded if that is an address.

    Raises:
        PatchDMError: it cannot be had, or is not the pinned one.
    """
    if is_address(data.location):
        with open_session(1) as session, ExitStack() as stack:
            bar: list[Callable[[int], None]] = []

            def report(done: int, total: int | None) -> None:
                if not bar:  # only now the total is known
                    show = place.progress("download", (total or 0) >> 20, "MiB")
                    bar.append(stack.enter_context(show))
                bar[0](done >> 20)

            return download(session, data.location, data.pin, place.state, report)
    file = place.root / data.location
    if not file.is_file():
        raise PatchDMError(f"{data.location}: data.location is no file")
    _check_pin(data.location, file, data.pin)
    return file


def download(
    session: Session,
    url: str,
    pin: str | None,
    state: Path,
    report: Callable[[int, int | None], None] = lambda _done, _total: None,
) -> Path:
    """Return the file of an address in the state folder, whatever its size.

    Raises:
        PatchDMError: it cannot be had, or is not of the SHA-256 `pin`.
    """
    state.mkdir(exist_ok=True)
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
def dropped_if_bad(file: Path, place: Place) -> Iterator[None]:
    """Remove a file from the state folder if it cannot be read: the next call gets it anew."""
    try:
        yield
    except PatchDMError:
        if place.state in file.parents:
            file.unlink(missing_ok=True)
        raise


def _check_pin(name: str, file: Path, pin: str | None) -> None:
    if pin is not None and (found := sha256(file)) != pin:
        raise PatchDMError(f"{name}: found sha256 {found}, expected {pin}")


def _item(location: str, shown: str, version: str, member: Member) -> Item:
    origin = f"{location}/{member.name}"
    bring = partial(unpack, member, name=origin)
    return Item(member.name, origin, f"{shown}/{member.name}", bring, version)
