"""How a command speaks: data to standard output, everything else to standard error, in the reader's language."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click

from rolebook.core.errors import RolebookError
from rolebook.language.translator import translator

#: What a terminal would obey, or what turns the direction of writing; newline and tab are harmless.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """The text as a terminal may show it: control characters and turns of direction become visible escapes."""
    return _UNSAFE.sub(
        lambda found: found[0].encode("unicode_escape").decode(), text.replace("\r\n", "\n")
    )


#: Headings of what is of no use in pieces: ids, which are there to be copied, and numbers.
_WHOLE = frozenset({"ID", "Turns", "Tokens", "Cost"})


#: Blanks between two columns of a table.
_BETWEEN = 2


class OutputError(RolebookError):
    """Standard output takes nothing more, for instance because its disk is full."""


def unwritten(error: OSError) -> OutputError:
    """What it means that output could not be written."""
    return OutputError("The output cannot be written: %(reason)s.", reason=error.strerror)


@contextmanager
def _putting_out() -> Iterator[None]:
    """Where data is put out. That nobody reads a pipe any more is no error to tell anyone."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise unwritten(error) from error


class Terminal:
    """Standard output and standard error of this process, and the language that is spoken there.

    What goes to a pipe or a file goes there as it is; what goes to a terminal is made visible first. Whatever puts data
    out may raise OutputError.
    """

    def __init__(self, language: str) -> None:
        self.translator = translator(language)
        self.is_interactive = sys.stdout.isatty()

    def gettext(self, message: str, /, **parameters: Any) -> str:
        """A text in the reader's language."""
        return self.translator.say(message, parameters)

    def write(self, text: str) -> None:
        """Put data out at once, without adding anything."""
        with _putting_out():
            click.echo(visible(text) if self.is_interactive else text, nl=False)

    def write_line(self, text: str = "") -> None:
        """Put a line of data out."""
        self.write(text + "\n")

    def write_styled(self, text: str, **style: Any) -> None:
        """Put data out that is coloured where it can be."""
        with _putting_out():
            click.secho(visible(text) if self.is_interactive else text, nl=False, **style)

    def write_json(self, value: object) -> None:
        """Put a value out as JSON that people can read."""
        self.write_line(json.dumps(value, ensure_ascii=False, indent=2, default=_as_json))

    def write_table(self, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Put rows out: in columns with translated headings on a terminal, else one a line, separated by tabs.

        On a terminal a column in which nothing stands is left out.
        """
        if not self.is_interactive:
            for row in rows:
                self.write_line("\t".join(" ".join(cell.split()) for cell in row))
            return
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, _BETWEEN, 0, 0))
        rows = list(rows)
        shown = [n for n in range(len(headings)) if not rows or any(row[n] for row in rows)]
        for n in shown:
            heading = self.gettext(headings[n])
            table.add_column(heading, overflow="fold", no_wrap=headings[n] in _WHOLE)
        for row in rows:
            table.add_row(*(Text(visible(row[n])) for n in shown))
        with _putting_out():
            Console().print(table)

    def would_fold(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
        """Whether a table is wider than the terminal, so that its words would be broken."""
        if not self.is_interactive:
            return False
        from rich.cells import cell_len
        from rich.console import Console

        table = [list(map(self.gettext, headings)), *rows]
        widths = [max(map(cell_len, column)) for column in zip(*table, strict=True)]
        return sum(widths) + _BETWEEN * (len(widths) - 1) > Console().width

    def tell(self, message: str, /, **parameters: Any) -> None:
        """A notice, translated, on standard error."""
        self.tell_line(self.gettext(message, **parameters))

    def tell_line(self, text: str) -> None:
        """A notice as it is, on standard error."""
        click.secho(visible(text), err=True, dim=True)

    def fail(self, error: RolebookError) -> None:
        """Say what went wrong, on standard error."""
        self.fail_line(self.translator.error(error))

    def fail_line(self, text: str) -> None:
        """Say what went wrong in words that are translated already."""
        click.secho(f"{self.gettext('Error')}: {visible(text)}", err=True, fg="red")


def _as_json(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else str(value)
