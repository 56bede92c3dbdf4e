"""The progress of an extraction: a folder that only grows.

    store/          shards as far as they are written, at the end the whole store
    records.bin     one RECORD per finished row of the layout, in its order
    damaged.jsonl   each photograph that could not be used
    moves/          at the end, images that change their places: see `patchdm.extract.moves`

A record is written after the image's pixels and the reason of its damage. So all that follows the
last whole record was not finished before a kill, and is cut off.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np

from patchdm.extract.store_writer import RECORD, Records


class Damaged(NamedTuple):
    """A photograph that could not be used."""

    row: int
    """The first of its rows in the layout."""
    photograph: str
    """Its name in data/raw."""
    reason: str


class Journal:
    """What an extraction has finished, perhaps before a kill.

    Attributes:
        store: folder of the shards.
        moves: folder of the images that change their places.
        done: number of finished rows of the layout.
        damaged: the photographs of these rows that could not be used, in their order.
    """

    def __init__(self, state: Path) -> None:
        self.store, self.moves = state / "store", state / "moves"
        self._log, self._damaged_log = state / "records.bin", state / "damaged.jsonl"
        self._open()

    def records(self) -> Records:
        """Return the records of all finished rows; their pages are read when needed."""
        if not self.done:
            return np.zeros(0, RECORD)
        return np.memmap(self._log, RECORD, "r", shape=(self.done,))

    def append(self, records: Records, damaged: list[Damaged]) -> None:
        """Record some rows whose images are in the store."""
        # ASCII: as many bytes as characters.
        self._damaged_file.writelines(json.dumps(one) + "\n" for one in damaged)
        self._damaged_file.flush()
        self._file.write(records.tobytes())
        self._file.flush()
        self.damaged += damaged
        self.done += len(records)

    def clear(self) -> None:
        """Start from nothing."""
        self.close()
        shutil.rmtree(self.store)
        shutil.rmtree(self.moves, ignore_errors=True)
        self._log.unlink()
        self._damaged_log.unlink()
        self._open()

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        self._damaged_file.close()

    def _open(self) -> None:
        self.store.mkdir(parents=True, exist_ok=True)
        self._file = self._log.open("ab")
        self.done = self._file.tell() // RECORD.itemsize
        self._file.truncate(self.done * RECORD.itemsize)
        self._damaged_file = self._damaged_log.open("a+")
        self._damaged_file.seek(0)
        lines = [line for line in self._damaged_file if line.endswith("\n")]
        known = [Damaged(*json.loads(line)) for line in lines]
        self.damaged = [damaged for damaged in known if damaged.row < self.done]
        self._damaged_file.truncate(sum(map(len, lines[: len(self.damaged)])))
