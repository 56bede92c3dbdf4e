"""How every hostile case ends: with one clear line, or with a recorded skip and the rest there."""

from __future__ import annotations

from pathlib import Path

import pytest

from patchdm.errors import PatchDMError
from tests.fetch.arriving import Raw, arrive

TARGET = "deep/target"


def refused(tmp_path: Path, source: str, location: Path | str, **data: object) -> str:
    """Fetch a source that must be refused; return the one line that says why."""
    with pytest.raises(PatchDMError) as error:
        arrive(tmp_path / TARGET, source, location, **data)
    line = str(error.value)
    assert line
    assert line.isprintable()
    assert len(line) < 1000
    assert not (tmp_path / TARGET / "raw").exists()
    return line


def left_out(
    tmp_path: Path,
    source: str,
    location: Path | str,
    good: dict[str, bytes],
    bad: int = 1,
    **data: object,
) -> str:
    """Fetch a source of good photographs and bad ones, which are left out.

    Returns:
        The line that says why the last is left out.
    """
    raw = arrive(tmp_path / TARGET, source, location, damaged_fraction=0.9, **data)
    assert raw.files == good
    assert sorted(raw.manifest["image"]) == sorted(good)
    reasons = raw.outcomes[raw.outcomes["outcome"] != "ok"]["outcome"].tolist()
    assert len(reasons) == bad
    assert len(raw.outcomes) == bad + len(good)
    assert all(reason.isprintable() for reason in reasons)
    return reasons[-1]


def error_or_all(
    tmp_path: Path, source: str, location: Path | str, good: dict[str, bytes], **data: object
) -> Raw | str:
    """Fetch a damaged source: all of it arrives as it was, or one line says that it doesn't."""
    try:
        raw = arrive(tmp_path / TARGET, source, location, **data)
    except PatchDMError:
        return refused(tmp_path, source, location, **data)
    assert raw.files == good
    return raw
