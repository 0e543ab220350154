"""Being told by the system when a file in a folder changes, where it can be relied on for that.

What it would miss decides: other computers change what is on a network share, and the machine around a container what
is in it, without this system's knowledge. So only folders of file systems that are known to be this system's own are
watched; for all others, and wherever watching fails, there is no :class:`Watch`, and the folders have to be looked at.
"""

from __future__ import annotations

import logging
import os
import re
import select
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

#: File systems on which nobody but this system changes something.
_LOCAL: Final = frozenset(
    {"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "overlay", "ramfs", "tmpfs"}
    | {"xfs", "zfs"}
)
_MOUNTS: Final = Path("/proc/self/mountinfo")

_logger = logging.getLogger(__name__)


class Watch:
    """What the system tells of the files in some folders, from now on until it is closed.

    Arguments:
        suffixes: the ends of the names that matter.
        on_change: called for all that happened at once, in a thread that sleeps otherwise; it must not wait.

    Raises OSError, or ImportError where there is nothing that tells.
    """

    def __init__(
        self, folders: Sequence[Path], suffixes: tuple[str, ...], on_change: Callable[[], None]
    ) -> None:
        from inotify_simple import INotify, flags  # type: ignore[import-untyped]

        self._folders = folders
        self._suffixes = suffixes
        self._on_change = on_change
        self._lost = flags.DELETE_SELF | flags.MOVE_SELF | flags.UNMOUNT | flags.IGNORED
        self._overflow = flags.Q_OVERFLOW
        self._is_lost = False
        self._is_telling = False
        self._identity = _identity(folders)
        self._end = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            self._inotify = INotify()
        except OSError:
            os.close(self._end)
            raise
        told = flags.CREATE | flags.DELETE | flags.MOVED_FROM | flags.MOVED_TO
        told |= flags.MODIFY | flags.CLOSE_WRITE | flags.ATTRIB
        told |= flags.DELETE_SELF | flags.MOVE_SELF | flags.ONLYDIR
        self._thread = threading.Thread(target=self._run, name="rolebook-watch", daemon=True)
        try:
            for folder in folders:
                self._inotify.add_watch(folder, told)
            self._thread.start()
        except (OSError, RuntimeError):
            self._release()
            raise

    @property
    def is_over(self) -> bool:
        """Whether it tells no more of the folders that have these names now."""
        return self._is_lost or self._identity != _identity(self._folders)

    @property
    def has_news(self) -> bool:
        """Whether something has happened of which ``on_change`` does not know yet. The system tells it in time: who has
        changed a file finds it true, until the change is told. Once it is closed, nobody is told.
        """
        poller = select.poll()
        try:
            poller.register(self._inotify, select.POLLIN)
        except ValueError:
            # Whoever follows the folders has closed it just now, while somebody looked.
            return True
        # In this order, as the thread goes the other way: what it has taken from the system, it is telling.
        return bool(poller.poll(0)) or self._is_telling

    def close(self) -> None:
        os.eventfd_write(self._end, 1)
        self._thread.join()
        self._release()

    def _release(self) -> None:
        self._inotify.close()
        os.close(self._end)

    def _run(self) -> None:
        poller = select.poll()
        poller.register(self._inotify, select.POLLIN)
        poller.register(self._end, select.POLLIN)
        try:
            while self._end not in dict(poller.poll()):
                self._is_telling = True
                masks = [
                    event.mask for event in self._inotify.read(timeout=0) if self._tells(event)
                ]
                self._is_lost = self._is_lost or any(mask & self._lost for mask in masks)
                if masks:
                    self._on_change()
                self._is_telling = False
        except Exception:
            self._is_lost = True
            self._on_change()
            _logger.exception("folders are not watched any more")

    def _tells(self, event: Any) -> bool:
        return bool(event.mask & (self._lost | self._overflow)) or event.name.endswith(
            self._suffixes
        )


def open_watch(
    folders: Sequence[Path], suffixes: tuple[str, ...], on_change: Callable[[], None]
) -> Watch | None:
    """Watch some folders as :class:`Watch` does; nothing if the system would not tell of every change in them."""
    if not all(file_system_of(folder) in _LOCAL for folder in folders):
        return None
    try:
        return Watch(folders, suffixes, on_change)
    except (OSError, RuntimeError, ImportError) as error:
        _logger.info("folders are looked at, because they cannot be watched: %s", error)
        return None


def file_system_of(folder: Path) -> str:
    """The kind of file system that a folder lies on, as Linux calls it; empty where that cannot be told."""
    mounted, kind = Path("/"), ""
    with suppress(OSError):
        target = Path(os.path.realpath(folder, strict=True))
        for line in _MOUNTS.read_text("utf-8", "surrogateescape").splitlines():
            place, _, rest = line.partition(" - ")
            point = Path(_unescaped(place.split(" ")[4]))
            # Of several that are mounted on each other, the last is seen.
            if target.is_relative_to(point) and point.is_relative_to(mounted):
                mounted, kind = point, rest.partition(" ")[0]
    return kind


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _identity(folders: Sequence[Path]) -> Sequence[tuple[int, int]]:
    """What tells folders from others that have taken their names."""
    found: list[tuple[int, int]] = []
    for folder in folders:
        try:
            status = folder.stat()
            found.append((status.st_dev, status.st_ino))
        except OSError:
            found.append((0, 0))
    return found
