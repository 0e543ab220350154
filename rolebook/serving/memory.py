"""How the memory of a server that runs for long is kept small."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Final

_M_MMAP_THRESHOLD: Final = -3
"""By its number in glibc's <malloc.h>."""
_LARGE_BYTES: Final = 128 * 1024


def give_back_large_blocks() -> None:
    """Let every large block of memory go back to the system when it is freed. Does nothing where libc is not glibc.

    By default glibc does so only until the first one is freed: from then on it keeps blocks of up to that size for
    later, in each of the arenas that its threads share. A server with many threads so holds the largest text that any
    of them has seen several times over, for ever. Whoever has set the threshold has thought about it.
    """
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    is_chosen = "MALLOC_MMAP_THRESHOLD_" in os.environ or "mmap_threshold" in tunables
    if sys.platform != "linux" or is_chosen:
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        # A threshold that is set, if only to what it is at first, does not move any more.
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
