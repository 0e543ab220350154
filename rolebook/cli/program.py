"""The program as a whole: its settings, its commands, and the one place where errors become words and a status."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

import click

from rolebook import __version__
from rolebook.cli.command import Group, setting_option
from rolebook.cli.invocation import Invocation
from rolebook.cli.terminal import Terminal, unwritten
from rolebook.config import SETTINGS
from rolebook.core.errors import InputError, NotFoundError, RolebookError

FAILED, WRONG_USE, INTERRUPTED, TERMINATED = 1, 2, 130, 143

_HELP = """AI roles as files: pick a persona, talk to it, find every word in the log.

The settings below may stand before or after a command. They win over environment variables, those over .env, and that
over rolebook.yaml."""

_EXAMPLES = """
rolebook serve
rolebook personas
rolebook ask teacher "Why does a minus times a minus make a plus?"
rolebook chat teacher -v subject=chemistry
rolebook sessions --search fraction
"""


class Program(Group):
    """All commands, each imported when it is used.

    Arguments:
        commands: where each command is: ``module:attribute`` by name.
    """

    def __init__(self, commands: Mapping[str, str]) -> None:
        super().__init__(
            name="rolebook",
            help=_HELP,
            examples=_EXAMPLES,
            params=[_VERSION, *(setting_option(setting) for setting in SETTINGS)],
            context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
            no_args_is_help=True,
            invoke_without_command=False,
        )
        self._places = commands

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = self._places.get(cmd_name)
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        found: click.Command = getattr(import_module(module), attribute)
        return found

    def invoke(self, ctx: click.Context) -> Any:
        invocation: Invocation = ctx.obj
        try:
            try:
                return super().invoke(ctx)
            finally:
                invocation.close()
        except RolebookError as error:
            invocation.terminal.fail(error)
            ctx.exit(WRONG_USE if isinstance(error, InputError | NotFoundError) else FAILED)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except Exception as error:
            _fail_unexpectedly(invocation.terminal, error)
            ctx.exit(FAILED)


def _show_version(context: click.Context, _option: click.Parameter, is_asked: bool) -> None:
    if is_asked:
        click.echo(f"rolebook {__version__}")
        context.exit()


_VERSION = click.Option(
    ["--version"],
    is_flag=True,
    is_eager=True,
    expose_value=False,
    help="Show the version and exit.",
    callback=_show_version,
)


def _fail_unexpectedly(terminal: Terminal, error: Exception) -> None:
    """A mistake of ours: its kind and place, but not its words, which may quote anything, a key included."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
    terminal.fail_line(
        terminal.gettext(
            "Rolebook itself failed here, which is a mistake in it: %(kind)s in %(place)s. Please report it.",
            kind=type(error).__name__,
            place=place,
        )
    )


def _terminate(_number: int, _frame: FrameType | None) -> None:
    """Leave as after Ctrl-C, so that the call ends and what had arrived gets into the log."""
    # A second one must not break off what the first has set going.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(TERMINATED)


def run(commands: Mapping[str, str], arguments: Sequence[str]) -> None:
    """Run one command line, then exit the process with its status."""
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        # What the terminal's encoding lacks, lone surrogates among it, is shown as an escape.
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    signal.signal(signal.SIGTERM, _terminate)
    invocation = Invocation(os.environ)
    try:
        Program(commands).main(list(arguments), prog_name="rolebook", obj=invocation)
    except OSError as error:
        # Click's own words, such as help; or none could be said of an error.
        with contextlib.suppress(OSError):
            invocation.terminal.fail(unwritten(error))
        sys.exit(FAILED)


def _open_closed_streams() -> None:
    """What was closed leads nowhere. Left closed, its number would go to a file of ours, the log perhaps, and who wrote
    to the stream would write into that.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115
