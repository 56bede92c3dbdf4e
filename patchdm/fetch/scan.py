"""Every image of an LMDB, checked in a process of its own, which a damaged one may end."""

from __future__ import annotations

import hashlib
import io
import multiprocessing
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from patchdm.errors import PatchDMError
from patchdm.fetch.arrival import MAX_BYTES, check_image
from patchdm.formats.raw import environment, name_of_key

_BATCH = 1024
_PATIENCE = 600
"""Seconds to wait for a batch: damaged pages may lead round in a circle."""


class Entry(NamedTuple):
    """An image of an LMDB."""

    name: str
    sha256: str
    bytes: int
    refused: str | None
    """What is wrong with it."""


def scan(folder: Path) -> Iterator[Entry]:
    """Check every image of an LMDB, in the order of keys.

    Raises:
        PatchDMError: the LMDB is so damaged that reading it ended the process or has no end.
    """
    left = environment(folder).stat()["entries"]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_send_all, args=(str(folder), there), daemon=True)
    process.start()
    there.close()  # so that its end is noticed
    try:
        while here.poll(_PATIENCE) and (batch := here.recv()):
            left -= len(batch)
            if left < 0:
                break
            yield from batch
    except EOFError:
        left = -1
    finally:
        here.close()  # ends a scan that nobody waits for, also if this process is killed
        process.kill()
        process.join()
    if left:
        raise PatchDMError(f"{folder / 'data.mdb'}: damaged LMDB, it cannot be read")


def _send_all(folder: str, there: Connection) -> None:
    """Send the entries of an LMDB in pieces, and an empty one at the end."""
    entries: list[Entry] = []
    with suppress(BrokenPipeError), environment(Path(folder)).begin(buffers=True) as transaction:
        for key, value in transaction.cursor():
            entries.append(_entry(name_of_key(bytes(key)), value))
            if len(entries) == _BATCH:
                there.send(entries)
                entries = []
        if entries:
            there.send(entries)
        there.send([])


def _entry(name: str, value: memoryview) -> Entry:
    refused = None
    if len(value) > MAX_BYTES:
        refused = f"{name}: found {len(value)} bytes, the limit is {MAX_BYTES}"
    else:
        content = bytes(value)
        try:
            check_image(io.BytesIO(content), content, name)
        except PatchDMError as error:
            refused = str(error)
    return Entry(name, hashlib.sha256(value).hexdigest(), len(value), refused)
