"""Outputs of stages: recorded as they are written, so that a file of the user's stands out.

DVC removes an output whole before its stage runs, and a stage replaces it whole. A file that no
stage wrote is therefore refused first: it may be a photograph of which no copy exists.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from patchdm.errors import PatchDMError
from patchdm.files import replacing
from stages._declared import declared_outputs

RECORDS = Path(".state/outputs")
_NOBODYS = re.compile(r"\.DS_Store|Thumbs\.db|desktop\.ini|\._.*|\.[\w-]{22}\.tmp")
"""Names of what file managers leave everywhere, and DVC where it was killed."""

Files = dict[str, int]
"""Path below an output (`.`: itself) -> size in bytes."""


@contextlib.contextmanager
def writing(output: Path) -> Iterator[Path]:
    """Yield a fresh path to write an output to; it takes the output's place at the end.

    What it holds is recorded before, so that a kill never leaves files that nobody knows. What
    the output holds until then stays recorded too.
    """
    with replacing(output) as fresh:
        yield fresh
        known = _read_record(output)
        kept = {path: size for path, size in _files(output).items() if known.get(path) == size}
        _write_record(output, kept | _files(fresh))


def refuse_foreign_files(outputs: Iterable[Path]) -> None:
    """See that outputs hold nothing but what stages wrote, or DVC put there from its cache.

    Raises:
        PatchDMError: one holds another file, or another version of a file.
    """
    for output in outputs:
        # Looked at twice: a stage that runs now records its output, then puts it there.
        if output.is_symlink() or not (_unknown(output) and (unknown := _unknown(output))):
            continue
        foreign = _not_by_dvc(output, unknown)
        if foreign:
            path = (output / min(foreign)).as_posix()
            more = f" (and {len(foreign) - 1} more)" if len(foreign) > 1 else ""
            raise PatchDMError(
                f"{path}{more}: found a file that no stage wrote, where stages replace all of "
                f"{output}; move it elsewhere (own photographs: data/sources) or delete it"
            )
        _write_record(output, _files(output))


def _unknown(output: Path) -> Files:
    files, known = _files(output), _read_record(output)
    return {path: size for path, size in files.items() if known.get(path) != size}


def _files(output: Path) -> Files:
    """Return the files of an output, and links in it, without following these."""
    if not output.is_dir():
        return {".": output.stat().st_size} if output.exists() else {}
    files = {}
    for folder, names, others in os.walk(output):
        here = Path(folder)
        links = [name for name in names if (here / name).is_symlink()]
        for name in [*others, *links]:
            if not _NOBODYS.fullmatch(name):
                with contextlib.suppress(FileNotFoundError):  # a stage that runs now removed it
                    size = (here / name).lstat().st_size
                    files[(here / name).relative_to(output).as_posix()] = size
    return files


def _not_by_dvc(output: Path, files: Files) -> list[str]:
    """Return those files of an output that DVC cannot have put there."""
    from dvc.exceptions import DvcException  # noqa: PLC0415 - slow, and rarely needed
    from dvc.repo import Repo  # noqa: PLC0415
    from dvc_data.hashfile.hash import hash_file  # noqa: PLC0415

    try:
        with Repo() as repo:
            cache = repo.cache.local
            cached = _cached(Path(cache.path))
            return [
                path
                for path in files
                if (file := output / path).is_symlink()
                or (digest := hash_file(str(file.absolute()), repo.fs, "md5", repo.state)[1].value)
                not in cached[path]
                or not cache.exists(digest)
            ]
    except DvcException:  # no repository, so nothing is cached
        return list(files)


def _cached(cache: Path) -> dict[str, set[str]]:
    """Return the hashes under which DVC's cache has files: path below an output -> MD5s."""
    found = defaultdict(set)
    for path in cache.glob("??/*"):
        if path.suffix == ".dir":
            for file in json.loads(path.read_text()):
                found[file["relpath"]].add(file["md5"])
        else:
            found["."].add(path.parent.name + path.name)
    return found


def _record(output: Path) -> Path:
    return RECORDS / f"{'-'.join(output.parts)}.json"


def _read_record(output: Path) -> Files:
    try:
        return json.loads(_record(output).read_text())
    except FileNotFoundError:
        return {}


def _write_record(output: Path, files: Files) -> None:
    with replacing(_record(output)) as fresh:
        fresh.write_text(json.dumps(files))


if __name__ == "__main__":
    try:
        refuse_foreign_files(declared_outputs())
    except PatchDMError as error:
        sys.exit(f"error: {error}")
