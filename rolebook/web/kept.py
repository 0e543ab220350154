"""What took a while to work out, kept as long as nothing has changed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

_Kept = TypeVar("_Kept")


class Kept(Generic[_Kept]):
    """The results of work by the id of what it was done on, the most recently used ones. Safe for threads.

    Arguments:
        most: how many are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[Hashable, _Kept]] = OrderedDict()

    def known(self, id: str, stamp: Hashable) -> _Kept | None:
        """What was made of it under the same stamp, if that is still kept."""
        with self._lock:
            found = self._kept.get(id)
            if found is None or found[0] != stamp:
                return None
            self._kept.move_to_end(id)
            return found[1]

    def get(self, id: str, stamp: Hashable, make: Callable[[], _Kept]) -> _Kept:
        """What was made of it under the same stamp, else what ``make`` returns now."""
        known = self.known(id, stamp)
        if known is not None:
            return known
        made = make()
        with self._lock:
            self._kept[id] = stamp, made
            self._kept.move_to_end(id)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return made
