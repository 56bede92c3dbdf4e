"""Check every image of an LMDB in a separate process, which a damaged LMDB may end."""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

from patchdm.errors import PatchDMError
from patchdm.fetch.arrival import MAX_BYTES, Arrival, check_image
from patchdm.formats.raw import Photograph, environment, name_of_key
from patchdm.parallel import own_processes

_BATCH = 1024
_PATIENCE = 600
"""Seconds to wait for a batch: damaged pages may form a circle."""


def scan(folder: Path, source: str) -> Iterator[Arrival]:
    """Check every image of an LMDB in the order of keys; refuse an LMDB without a readable end."""
    left = environment(folder).stat()["entries"]
    context = own_processes(__name__)
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_send_all, args=(str(folder), source, there), daemon=True)
    process.start()
    there.close()  # or the end of the process would go unnoticed
    try:
        while here.poll(_PATIENCE) and (batch := here.recv()):
            left -= len(batch)
            if left < 0:
                break
            yield from batch
    except EOFError:
        left = -1
    finally:
        here.close()  # ends the scan, also if this process is killed
        process.kill()
        process.join()
    if left:
        raise PatchDMError(f"{folder / 'data.mdb'}: damaged LMDB, it cannot be read")


def _send_all(folder: str, source: str, there: Connection) -> None:
    """Send the images of an LMDB in batches, and an empty one at the end."""
    with suppress(BrokenPipeError), environment(Path(folder)).begin(buffers=True) as transaction:
        cursor = transaction.cursor()
        checked = (_checked(name_of_key(bytes(key)), source, value) for key, value in cursor)
        while batch := list(itertools.islice(checked, _BATCH)):
            there.send(batch)
        there.send([])


def _checked(name: str, source: str, value: memoryview) -> Arrival:
    refused = None
    if len(value) > MAX_BYTES:
        refused = f"{name}: found {len(value)} bytes, the limit is {MAX_BYTES}"
    else:
        content = bytes(value)
        try:
            check_image(io.BytesIO(content), content, name)
        except PatchDMError as error:
            refused = str(error)
    digest = hashlib.sha256(value).hexdigest()
    return Arrival(Photograph(name, source, "unknown", digest, len(value)), refused)
