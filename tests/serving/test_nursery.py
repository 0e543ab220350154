"""The process that makes the gateway processes."""

from __future__ import annotations

import subprocess
import sys

#: A process of its own, as forking needs one without threads. What it may not do is the system's to say.
_PROGRAM = """
import os, resource, signal
from rolebook.serving import crossing
from rolebook.serving.nursery import Nursery

NUMBER = resource.RLIMIT_NPROC
reader, writer = os.pipe()


def prepare():
    # No limit holds for root.
    if os.geteuid() == 0:
        os.setuid(65534)
    most = resource.getrlimit(NUMBER)[1]
    signal.signal(signal.SIGUSR1, lambda *_: resource.setrlimit(NUMBER, (most, most)))
    resource.setrlimit(NUMBER, (0, most))
    os.write(writer, b"%d" % os.getpid())


def made(number):
    own, other = crossing.pair()
    with other:
        nursery.make(other, number)
    own.settimeout(20)
    return own.recv(9).decode()


nursery = Nursery(prepare, lambda way, number: way.send(b"%d" % number))
nurse = int(os.read(reader, 20))
print([made(1), made(2)])
os.kill(nurse, signal.SIGUSR1)
print([made(3)])
"""


def test_nursery_outlives_a_system_without_room_for_another_process() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=60, check=True
    )
    assert "['', '']\n['3']\n" == ended.stdout
    told = "a gateway process cannot be started, and is tried again: Resource temporarily unavailable\n"
    assert told * 2 == ended.stderr
