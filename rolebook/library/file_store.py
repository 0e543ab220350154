"""Files that are there whole or not at all: how the library writes, moves and locks.

A text goes into a temporary file in the same folder, is brought to the disk, and takes its place in one step; then the
folder is brought to the disk too, because a name is only safe from a power cut when its folder is.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rolebook.core.blocking import blocking, held
from rolebook.core.errors import LibraryError
from rolebook.library.folder import shown

if sys.platform != "win32":
    import fcntl

#: Unfinished writes; never read, removed when they are old.
TEMPORARY = ".rolebook-"
_UNFINISHED_S = 60
#: File systems without hard links say one of these.
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}

_locks: dict[str, threading.Lock] = defaultdict(threading.Lock)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Nobody else who asks, in this process or another one, changes files of the folder meanwhile."""
    with held(_locks[os.path.realpath(folder)]), _locked_by_system(folder):
        yield


@contextmanager
def _locked_by_system(folder: Path) -> Iterator[None]:
    if sys.platform == "win32":
        yield
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise unwritable(folder, error) from None
    try:
        # Some network file systems know no locks. What is lost is a race that takes two savers and some microseconds.
        with suppress(OSError), blocking():
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def write_new(path: Path, data: bytes, *, mode_of: Path | None = None) -> None:
    """Write a file that is not there yet.

    Arguments:
        mode_of: a file whose mode it gets.

    Raises FileExistsError if it is there, LibraryError if it cannot be written.
    """
    mode = mode_of.stat().st_mode & 0o7777 if mode_of else None
    with _temporary(path, data, mode=mode) as temporary:
        try:
            os.link(temporary, path)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            if path.exists():
                raise FileExistsError(path) from None
            temporary.rename(path)


def replace(path: Path, data: bytes) -> None:
    """Put other contents into a file, which keeps its mode. Raises LibraryError; then the file is as it was."""
    try:
        status = path.stat()
    except OSError as error:
        raise unwritable(path, error) from None
    if not os.access(path, os.W_OK):
        # Replacing it would work, but whoever took the right to write away has meant something by it.
        raise unwritable(path, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    with _temporary(path, data, mode=status.st_mode & 0o7777) as temporary:
        # Only root may give files away, and a group only those who are in it.
        with suppress(OSError, AttributeError):
            os.chown(temporary, status.st_uid, status.st_gid)
        temporary.replace(path)


def move(source: Path, target: Path) -> None:
    """Give a file another name in the same file system, where nothing has it yet.

    Raises FileExistsError if something has, LibraryError if it cannot be moved.
    """
    try:
        if os.path.lexists(target):
            raise FileExistsError(target)
        source.rename(target)
        for folder in {source.parent, target.parent}:
            sync_folder(folder)
    except FileExistsError:
        raise
    except OSError as error:
        raise unwritable(source, error) from None


@contextmanager
def _temporary(path: Path, data: bytes, *, mode: int | None) -> Iterator[Path]:
    """A finished file beside a path, for the block to put in its place; gone afterwards."""
    name = f"{TEMPORARY}{os.getpid()}-{threading.get_ident()}"
    temporary = path.parent / name
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                if mode is not None and hasattr(os, "fchmod"):
                    os.fchmod(file.fileno(), mode)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield temporary
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except FileExistsError:
        raise
    except OSError as error:
        raise unwritable(path, error) from None


def unwritable(path: Path, error: OSError) -> LibraryError:
    """Why a file cannot be written, in words."""
    message = _REASONS.get(error.errno or 0, "%(path)s cannot be written: %(reason)s.")
    return LibraryError(message, path=shown(path), reason=error.strerror or str(error))


_FULL = "The disk is full, so %(path)s was not written and is as it was. Free some space, then save again."
_FORBIDDEN = (
    "%(path)s cannot be written: the file or its folder is read-only. Nothing was changed."
    " Allow writing there, then save again."
)
_REASONS = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.EROFS: _FORBIDDEN,
}


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_unfinished(folder: Path) -> None:
    """What a killed process left behind; another one may be writing right now, so only what is old."""
    for path in folder.glob(f"{TEMPORARY}*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _UNFINISHED_S:
                path.unlink()
