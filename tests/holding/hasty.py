"""The program with shorter waits than people get: `python -m tests.holding.hasty serve …`.

What it does once it has waited is the same, so that a test of that need not take as long.
"""

from __future__ import annotations

from rolebook.__main__ import main
from rolebook.lean_import import import_lean


def hurry() -> None:
    """Wait for a client, before a process that has ended is replaced, and with idle connections, a tenth to a fifth as
    long; and half as long for one that hangs.
    """
    import_lean()
    from rolebook.serving import gateways, server
    from rolebook.upstream import wire

    server.PATIENCE = 1
    gateways._PAUSE_S = 0.2
    gateways._SHORTEST_LIFE_S = 1.0
    gateways._SILENCE_S = 2.5
    wire._KEEP_ALIVE_S = 2.0


if __name__ == "__main__":
    hurry()
    main()
