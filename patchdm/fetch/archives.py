"""Read zip and tar archives as hostile input: members are checked and written one by one."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, NamedTuple, cast

import zstandard

from patchdm.errors import PatchDMError
from patchdm.fetch.arrival import PIECE, copy
from patchdm.fetch.names import PassedOver

MAX_RATIO = 100
"""An archive unpacks to at most this many times its size. Photographs are compressed already."""
_SLACK = 2**24
_LARGEST_READ = 2**24
"""Limits the size that a member's extended header announces, which tarfile reads at once."""
_LARGEST_WINDOW = 2**27
"""Bytes of memory for decompression: as much as `zstd --long` uses, and twice that of `xz -9`."""
_KINDS = "zip, tar, tar.gz, tar.bz2, tar.xz, tar.zst"

DAMAGES = (
    OSError, EOFError, RuntimeError, UnicodeError, ValueError,
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, tarfile.TarError, zstandard.ZstdError,
)  # fmt: skip
"""Errors of the readers on damaged archives; RuntimeError: an encrypted or exotic member."""


class Member(NamedTuple):
    """A file of an archive that has a photograph's suffix."""

    name: str
    """Its path in the archive, without `.` parts; not yet trusted."""
    open: Any
    """Opens it; in a tar archive only until the next member is read."""
    refused: str | None
    """Why it must not be opened; None: it may be."""


def members(path: Path, name: str, passed_over: PassedOver | None = None) -> Iterator[Member]:
    """Yield the photographs of an archive in its order, whatever its suffix.

    Args:
        passed_over: counts the files that are not yielded.

    Raises:
        PatchDMError: the archive is missing, damaged, or unpacks to far more than its size.
    """
    passed_over = passed_over or PassedOver()
    try:
        with path.open("rb") as file:
            begin = file.read(6)
            file.seek(0)
            if begin[:2] == b"PK":
                with zipfile.ZipFile(file) as archive:
                    yield from _zip_members(path, archive, passed_over)
            else:
                with _decompressed(file, begin) as stream:
                    yield from _tar_members(path, stream, passed_over)
    except DAMAGES as error:
        expected = "" if isinstance(error, OSError) and error.errno else f"; expected {_KINDS}"
        raise PatchDMError(f"{name}: no readable archive: {error}{expected}") from None


def unpack(member: Member, path: Path, name: str) -> None:
    """Write a member to a file; refuse one that is damaged, or larger than a photograph may be."""
    if member.refused:
        raise PatchDMError(f"{name}: {member.refused}")
    try:
        with member.open() as stream:
            copy(stream, path, name)
    except DAMAGES as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise PatchDMError(f"{name}: cannot be read: {error}") from None


def _zip_members(path: Path, archive: zipfile.ZipFile, passed_over: PassedOver) -> Iterator[Member]:
    files = [member for member in archive.infolist() if not member.is_dir()]
    check_ratio(sum(file.file_size for file in files), path.stat().st_size)
    for file in files:
        if passed_over.takes(file.filename):
            refused = None
            if stat.S_IFMT(file.external_attr >> 16) not in (0, stat.S_IFREG):
                refused = "is no regular file"
            elif file.flag_bits & 1:
                refused = "is encrypted"
            # its own name: zipfile cuts it at a zero byte
            name = str(PurePosixPath(file.orig_filename))
            yield Member(name, partial(archive.open, file), refused)


def _tar_members(path: Path, stream: IO[bytes], passed_over: PassedOver) -> Iterator[Member]:
    forward = _Forward(stream, MAX_RATIO * path.stat().st_size + _SLACK)
    with tarfile.open(fileobj=cast(BinaryIO, forward), mode="r:", name=str(path)) as archive:
        while file := archive.next():
            vars(archive)["members"].clear()  # it would keep them all
            if file.isdir() or not passed_over.takes(file.name):
                continue
            regular = file.isreg() and not file.issparse()
            opener = partial(archive.extractfile, file)
            name = str(PurePosixPath(file.name))
            yield Member(name, opener, None if regular else "is no regular file")
    forward.check_end()


def _decompressed(file: BinaryIO, begin: bytes) -> IO[bytes]:
    """Return the content of a compressed tar archive."""
    if begin[:2] == b"\x1f\x8b":
        return cast(IO[bytes], gzip.GzipFile(fileobj=file))
    if begin[:3] == b"BZh":
        return cast(IO[bytes], bz2.BZ2File(file))
    if begin == b"\xfd7zXZ\0":
        return cast(IO[bytes], _Xz(file))
    if begin[:4] == b"\x28\xb5\x2f\xfd":
        reader = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW)
        return cast(IO[bytes], reader.stream_reader(file, read_across_frames=True))
    return file


class _Xz(io.RawIOBase):
    """The content of an xz file in bounded memory, which `lzma.open` does not promise.

    It may hold several streams, perhaps with zeros between, as parallel compressors write them.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._left = file, b""
        self._stream: lzma.LZMADecompressor | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = b""
        while not content:
            if self._stream and self._stream.eof:
                self._left, self._stream = self._stream.unused_data, None
            if self._stream is None:
                while not self._left.strip(b"\0"):  # zeros, or the end
                    self._left = self._file.read(PIECE)
                    if not self._left:
                        return 0
                self._left = self._left.lstrip(b"\0")
                self._stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_LARGEST_WINDOW)
            piece, self._left = self._left, b""
            if not piece and self._stream.needs_input and not (piece := self._file.read(PIECE)):
                raise EOFError("found its end within a stream")
            content = self._stream.decompress(piece, len(buffer))
        buffer[: len(content)] = content
        return len(content)


class _Forward:
    """A stream as the file that tarfile needs: it is read once, forwards.

    tarfile goes back by one byte to see whether a member is whole.
    """

    def __init__(self, stream: IO[bytes], limit: int) -> None:
        self._stream, self._limit = stream, limit
        self._at, self._last, self._again, self._block = 0, b"", False, b""

    def tell(self) -> int:
        return self._at - self._again

    def seek(self, position: int, _whence: int = 0) -> int:
        self._again = position == self._at - 1 and self._last != b""
        if position < self.tell():
            raise tarfile.ReadError("its parts overlap")
        while self.tell() < position and self.read(min(PIECE, position - self.tell())):
            pass
        return self.tell()

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _LARGEST_READ:
            raise tarfile.ReadError(f"found a header of {size} bytes")
        if self._again and size:
            self._again = False
            return self._last + self.read(size - 1)
        content = self._stream.read(size)
        while len(content) < size and (more := self._stream.read(size - len(content))):
            content += more
        self._at += len(content)
        if self._at > self._limit:
            raise tarfile.ReadError(f"found more than {MAX_RATIO} times its size inside")
        self._last = content[-1:] or self._last
        self._block = content
        return content

    def check_end(self) -> None:
        """Refuse an archive that does not end with zeros alone: tarfile stops at any damage."""
        if len(self._block) != tarfile.BLOCKSIZE or any(self._block):
            raise tarfile.ReadError(f"found its end after {self._at} bytes without an end mark")
        while block := self.read(PIECE):
            if any(block):
                raise tarfile.ReadError(f"found more after its end mark, at {self._at} bytes")


def check_ratio(unpacked: int, size: int) -> None:
    """Raise a BadZipFile if an archive of so many bytes unpacks to far more."""
    if unpacked > MAX_RATIO * size + _SLACK:
        raise zipfile.BadZipFile(f"found more than {MAX_RATIO} times its size inside")
