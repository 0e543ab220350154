"""The program: ``rolebook``, or ``python -m rolebook``."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

from rolebook import __version__

#: Every command and where it is. A module is imported only when its command is used.
COMMANDS = {
    "serve": "rolebook.serve:serve",
    "personas": "rolebook.cli.persona:personas",
    "templates": "rolebook.cli.template:templates",
    "models": "rolebook.cli.model:models",
    "render": "rolebook.cli.prompt:render",
    "ask": "rolebook.cli.turn:ask",
    "chat": "rolebook.cli.chat:chat",
    "sessions": "rolebook.cli.session:sessions",
    "compare": "rolebook.cli.compare:compare",
    "replay": "rolebook.cli.replay:replay",
    "comparisons": "rolebook.cli.comparison:comparisons",
    "backup": "rolebook.cli.upkeep:backup",
    "empty-trash": "rolebook.cli.upkeep:empty_trash",
    "check": "rolebook.cli.check:check",
    "schema": "rolebook.cli.schema:schema",
    "users": "rolebook.cli.user:users",
    "keys": "rolebook.cli.key:keys",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its status.

    Arguments:
        arguments: the command line without the program's name; by default that of this process, which then ends.
    """
    is_whole_process = arguments is None
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments == ["--version"]:
        # Scripts ask for this often, and it takes nothing to answer.
        print(f"rolebook {__version__}")
        return
    # Imports make many objects and next to no garbage. Looking for it every 700 objects is a tenth of their time, so
    # that begins when all is loaded (see Invocation). Searching through all of them when the process ends takes as
    # long again.
    gc.disable()
    # Pydantic would look through all packages that are installed for plugins of it, and Rolebook uses none.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    from rolebook.lean_import import import_lean

    import_lean()
    from rolebook.cli.program import run

    try:
        run(COMMANDS, arguments)
    except SystemExit as ending:
        if is_whole_process and isinstance(ending.code, int):
            _end_at_once(ending.code)
        raise
    finally:
        gc.freeze()


def _end_at_once(status: int) -> None:
    """End the process without taking apart first what it has loaded, which would take 10 to 20 ms.

    What else Python does at the end of a process is done here; where it has to wait for a thread, it does it itself.
    """
    import atexit
    import threading

    here = threading.current_thread()
    if any(thread is not here and not thread.daemon for thread in threading.enumerate()):
        return
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        # Whoever read it has gone. Python has a status of its own for that.
        return
    except OSError:
        # It was told where it was written.
        status = status or 1
    os._exit(status)


if __name__ == "__main__":
    main()
