"""What all commands have in common: settings as flags, help that is translated, examples that stay as they are."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rolebook.config import SETTINGS, Setting

if TYPE_CHECKING:
    from rolebook.cli.invocation import Invocation

C = TypeVar("C", bound=click.Command)


def setting_option(setting: Setting, *, is_hidden: bool = False) -> click.Option:
    """The flag of a setting. It goes into the invocation's flags and not to the command."""

    def keep(context: click.Context, _option: click.Parameter, value: str | None) -> None:
        if value is not None:
            invocation: Invocation = context.find_root().obj
            invocation.flags[setting.name] = value

    return click.Option(
        [f"--{setting.name.replace('_', '-')}"],
        help=setting.help,
        metavar=_METAVARS.get(setting.name, "TEXT"),
        hidden=is_hidden,
        expose_value=False,
        is_eager=setting.name == "language",
        callback=keep,
    )


_METAVARS = {
    "personas": "FOLDER",
    "templates": "FOLDER",
    "database": "FILE",
    "config": "FILE",
    "upstream": "NAME",
    "model": "MODEL",
    "judge": "ID",
    "host": "ADDRESS",
    "port": "PORT",
    "threads": "NUMBER",
    "login": "auto|always|never",
    "host_names": "NAMES",
    "proxies": "NUMBER",
    "language": "en|zh",
    "log_format": "text|json",
    **{setting.name: "SECONDS" for setting in SETTINGS if setting.name.endswith("_timeout")},
}


class _Spoken(click.Command):
    """A command whose help is in the reader's language and ends with examples.

    Every setting is also understood after the command's name, but only the program's own help lists them all.

    Arguments:
        examples: command lines, each a line.
    """

    def __init__(self, *args: Any, examples: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        params = super().get_params(ctx)
        taken = {option for param in params for option in param.opts}
        missing = [s for s in SETTINGS if f"--{s.name.replace('_', '-')}" not in taken]
        return [*params, *(setting_option(setting, is_hidden=True) for setting in missing)]

    def get_help(self, ctx: click.Context) -> str:
        return super(_Spoken, _translated(self, ctx)).get_help(ctx)

    def get_short_help_str(self, limit: int = 45) -> str:
        # Cut at a word in English, a short help would end in the middle of a sentence in Chinese.
        return (self.help or "").split("\n\n")[0].replace("\n", " ").strip()

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        if self.examples:
            say = ctx.find_root().obj.terminal.gettext
            with formatter.section(say("Examples")):
                for line in self.examples.strip().splitlines():
                    formatter.write(f"{'':>{formatter.current_indent}}{line.strip()}\n")


class Command(_Spoken):
    """One command."""


class Group(_Spoken, click.Group):
    """A command with commands of its own, such as ``sessions`` and ``sessions show``."""

    command_class = Command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        say = ctx.find_root().obj.terminal.gettext
        rows = [
            (name, say(command.get_short_help_str()))
            for name in self.list_commands(ctx)
            if (command := self.get_command(ctx, name))
        ]
        with formatter.section(say("Commands")):
            formatter.write_dl(rows)


def _translated(command: C, ctx: click.Context) -> C:
    """A copy whose texts are in the reader's language."""
    say: Callable[..., str] = ctx.find_root().obj.terminal.gettext
    spoken = copy.copy(command)
    spoken.help = "\n\n".join(map(say, help_texts(command)))
    spoken.params = [_translated_param(param, say) for param in command.params]
    return spoken


def _translated_param(param: click.Parameter, say: Callable[..., str]) -> click.Parameter:
    if not isinstance(param, click.Option) or not param.help:
        return param
    spoken = copy.copy(param)
    spoken.help = say(param.help)
    return spoken


def help_texts(command: click.Command) -> Sequence[str]:
    """The paragraphs of a command's help, each a text to translate."""
    paragraphs = (command.help or "").strip().split("\n\n")
    return [" ".join(paragraph.split()) for paragraph in paragraphs]


command: Callable[..., Callable[[Callable[..., Any]], Command]] = partial(
    click.command, cls=Command
)
"""Makes a function a command; takes what ``click.command`` takes, and ``examples``."""

group: Callable[..., Callable[[Callable[..., Any]], Group]] = partial(
    click.group, cls=Group, invoke_without_command=True
)
"""Makes a function a group that lists when it is called alone."""
