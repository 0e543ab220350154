"""A folder of the library: which files stand in it, and what is in them, whatever somebody has put there.

A folder comes out of a repository, an archive or a share. A name in it may be a link to a file of somebody's own, a
pipe that never answers or a device that never ends: only regular files inside the folder are ever opened.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import field
from pathlib import Path
from typing import Final

from rolebook.core.errors import InputError, Phrase, Problem
from rolebook.core.frozen import frozen

#: More files than this in one folder are no library; the rest is named and left out.
MAX_FILES: Final = 10_000

Signature = tuple[int, int, int, int]
"""What the system says of a file; a change of it means that the file is read again."""

_KINDS: Final = (
    (stat.S_ISDIR, Phrase("a folder")),
    (stat.S_ISFIFO, Phrase("a pipe")),
    (stat.S_ISSOCK, Phrase("a socket")),
)


@frozen
class Listing:
    """The regular files of a folder by name, and what is wrong with the others.

    ``is_flat`` says that each file has its one name in this folder, so that no write to it passes the folder by.
    """

    files: Mapping[str, Signature] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    is_readable: bool = True
    is_flat: bool = True


def list_files(folder: Path, suffixes: tuple[str, ...]) -> Listing:
    """The files of a folder that end in one of ``suffixes``, hidden ones left out. Never raises."""
    try:
        with os.scandir(folder) as entries:
            found = [
                entry
                for entry in entries
                if entry.name.endswith(suffixes) and not entry.name.startswith(".")
            ]
    except OSError as error:
        problem = _problem(shown(folder), 0, _unreadable(error))
        return Listing(problems=(problem,), is_readable=False)
    problems: list[Problem] = []
    if len(found) > MAX_FILES:
        found.sort(key=lambda entry: entry.name)
        message = "It holds more than %(limit)d files: those from '%(name)s' on are left out."
        parameters = {"limit": MAX_FILES, "name": printable(found[MAX_FILES].name)}
        problems.append(_problem(shown(folder), 0, Phrase(message, parameters)))
    files: dict[str, Signature] = {}
    is_flat = True
    for entry in found[:MAX_FILES]:
        try:
            if entry.is_symlink():
                is_flat = False
                _target(folder / entry.name)
            status = entry.stat()
            if not stat.S_ISREG(status.st_mode):
                raise _no_file(status.st_mode)
            is_flat = is_flat and status.st_nlink == 1
        except FileNotFoundError:
            # Deleted a moment ago.
            continue
        except OSError as error:
            problems.append(_problem(shown(folder / entry.name), 1, _unreadable(error)))
        except InputError as error:
            said = Phrase(error.message, error.parameters)
            problems.append(_problem(shown(folder / entry.name), 1, said))
        else:
            files[entry.name] = _signature(status)
    return Listing(files, tuple(problems), is_flat=is_flat)


def read_file(path: Path, *, limit: int) -> bytes:
    """The content of a regular file inside its folder. Never waits for one that does not answer.

    Raises InputError, for a file of more than ``limit`` bytes too.
    """
    try:
        target = _target(path) if path.is_symlink() else path
        # Between looking and opening anything may have taken the place of the file.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(target, flags), "rb") as file:  # noqa: PTH123 - by its descriptor
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise _no_file(status.st_mode)
            source = file.read(limit + 1)
    except OSError as error:
        said = _unreadable(error)
        raise InputError(said.message, **said.parameters) from None
    if len(source) > limit:
        raise InputError(
            "The file has %(size)d bytes; at most %(limit)d are read: shorten or split it.",
            size=max(status.st_size, len(source)),
            limit=limit,
        )
    return source


def is_settled(signature: Signature) -> bool:
    """Whether a later write would show: file times advance in steps of some milliseconds."""
    modified_ns = max(signature[0], signature[1])
    return not 0 <= time.time_ns() - modified_ns < 20_000_000


def shown(path: Path) -> str:
    """A path as messages name it: relative to where Rolebook runs, if it lies below."""
    with suppress(ValueError):
        return printable(str(path.absolute().relative_to(Path.cwd())))
    return printable(str(path))


def printable(name: str) -> str:
    """A file's name without what breaks a line, steers a terminal or is no character; an escape in its place."""
    if name.isprintable():
        return name
    return "".join(letter if letter.isprintable() else _escape(letter) for letter in name)


def _escape(letter: str) -> str:
    """``\\n`` for a newline, and for a byte that is not UTF-8 that byte."""
    code = ord(letter)
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else ascii(letter)[1:-1]


def _signature(status: os.stat_result) -> Signature:
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


def _target(link: Path) -> Path:
    """Where a link leads. Raises InputError if that is no place in its folder."""
    target = Path(os.path.realpath(link))
    if not os.path.lexists(target) or target.is_symlink():
        raise InputError("This is a link that leads to no file: correct it or remove it.")
    if not target.is_relative_to(os.path.realpath(link.parent)):
        raise InputError(
            "This is a link to something outside of its folder, and such links are not followed:"
            " put the file itself here."
        )
    return target


def _no_file(mode: int) -> InputError:
    kind = next((kind for is_kind, kind in _KINDS if is_kind(mode)), Phrase("a device"))
    return InputError("This is %(kind)s and no file: remove it, or rename it.", kind=kind)


def _unreadable(error: OSError) -> Phrase:
    if isinstance(error, PermissionError):
        return Phrase("Rolebook is not allowed to read it: change its permissions.")
    return Phrase("It cannot be read: %(reason)s.", {"reason": error.strerror or "unknown"})


def _problem(file: str, line: int, said: Phrase) -> Problem:
    return Problem(file, line, line, said.message, dict(said.parameters))
