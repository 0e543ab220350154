"""What becomes of large blocks of memory that are freed, as glibc counts them."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

#: Prints how many blocks more are the system's own, and not kept for later, after one of 1 MB is asked for; one of
#: 16 MB has been freed before.
COUNT = """
import ctypes

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks a b c d e f".split()]

count = ctypes.CDLL(None).mallinfo2
count.restype = Info
bytearray(16 << 20)
before = count().hblks
block = bytearray(1 << 20)
print(count().hblks - before)
"""
GIVE_BACK = "from rolebook.serving.memory import give_back_large_blocks as give; give()\n"


def counted(script: str, **environment: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="this libc does not count its blocks"
)
def test_large_blocks_go_back_to_the_system_unless_somebody_has_chosen_otherwise() -> None:
    assert 0 == counted(COUNT)
    assert 1 == counted(GIVE_BACK + COUNT)
    chosen = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20)}
    assert 0 == counted(GIVE_BACK + COUNT, **chosen)
