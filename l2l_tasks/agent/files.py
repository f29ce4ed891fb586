"""Small file operations that survive being killed at any moment."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any, Iterator, Mapping

LOCK_PATIENCE = 120.0
"""Seconds to wait for a campaign's lock: more than the slowest scheduler query (18 s) of several others."""


class Busy(Exception):
    """Somebody else holds the lock for very long."""


class LocksUnavailable(Exception):
    """The file system refuses file locks."""


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that readers see the old or the new content, also after a crash of the machine."""
    temporary = path.with_name(".%s.%d.tmp" % (path.name, os.getpid()))
    try:
        with open(temporary, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(str(temporary), str(path))
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames into a folder survive a crash; a no-op where the file system cannot."""
    with contextlib.suppress(OSError):
        descriptor = os.open(str(folder), os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def to_json(value: Any) -> bytes:
    """Compact ASCII JSON; ValueError for NaN and infinity."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


def read_json(path: Path) -> Mapping[str, Any]:
    """A JSON object from a file. ValueError when the file holds anything else."""
    value = json.loads(path.read_bytes().decode("utf-8"))
    if not isinstance(value, dict):
        raise ValueError("%s holds no JSON object" % path)
    return value


class LineWriter:
    """Appends lines to a file, each with one write. A torn last line of a predecessor is closed off first."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(str(path), os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        size = os.fstat(self._descriptor).st_size
        if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
            self._write(b"\n")

    def append(self, line: bytes, durable: bool = True) -> None:
        """Append `line` (without newline), on disk on return when `durable`. OSError: disk full."""
        self._write(line + b"\n")
        if durable:
            os.fsync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._descriptor, data) :]


@contextlib.contextmanager
def locked(path: Path, patience: float = LOCK_PATIENCE) -> Iterator[None]:
    """Hold the file lock `path` (created if need be). The lock goes with the process, however it dies.

    Raises:
        Busy: not got within `patience` seconds.
        LocksUnavailable: the file system has no locks (mount option `flock` on Lustre).
        FileNotFoundError: the folder is gone.
    """
    limit = time.monotonic() + patience
    while True:
        descriptor = os.open(str(path), os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _acquire(descriptor, path, limit)
            if _is_current(descriptor, path):
                yield
                return
        finally:
            os.close(descriptor)


def _acquire(descriptor: int, path: Path, limit: float) -> None:
    pause = 0.01
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES, errno.EINTR):
                raise LocksUnavailable("%s: file locks do not work here: %s" % (path, error)) from error
        if time.monotonic() > limit:
            raise Busy("%s is held by another command for too long" % path)
        time.sleep(pause)
        pause = min(pause * 1.5, 0.25)


def _is_current(descriptor: int, path: Path) -> bool:
    """Whether the locked file is still the one at `path`: the campaign may have been deleted meanwhile."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(str(path)))
    except FileNotFoundError:
        return False
