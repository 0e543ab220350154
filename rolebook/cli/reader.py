"""Where a chat's inputs come from: a person at a terminal, or lines of a pipe."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import History
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent


class Reader(Protocol):
    """Gives one input after the other."""

    def read(self) -> str | None:
        """The next input; ``None`` when there is none left."""


def open_reader(history: Path) -> Reader:
    """The reader that fits: with editing and recall where input and output are a terminal, else plain lines.

    Arguments:
        history: the file that remembers inputs from chat to chat.
    """
    if sys.stdin.isatty() and sys.stdout.isatty():
        return PromptReader(history)
    return LineReader()


class LineReader:
    """Lines of standard input. A backslash at the end of one joins the next to it."""

    def read(self) -> str | None:
        lines: list[str] = []
        while line := sys.stdin.buffer.readline():
            text = line.decode("utf-8", "replace").removesuffix("\n").removesuffix("\r")
            if not text.endswith("\\"):
                return "\n".join([*lines, text])
            lines.append(text[:-1])
        return "\n".join(lines) if lines else None


class PromptReader:
    """A prompt with editing: the arrows recall, Alt-Enter or a backslash at the end goes on in the next line."""

    def __init__(self, history: Path) -> None:
        from prompt_toolkit import PromptSession

        self._session: PromptSession[str] = PromptSession(
            message="› ",
            multiline=True,
            prompt_continuation="  ",
            key_bindings=_key_bindings(),
            history=_open_history(history),
        )

    def read(self) -> str | None:
        while True:
            try:
                return self._session.prompt()
            except KeyboardInterrupt:
                # As in a shell: it only throws the line away.
                continue
            except EOFError:
                return None


def _key_bindings() -> KeyBindings:
    from prompt_toolkit.key_binding import KeyBindings

    bindings = KeyBindings()

    @bindings.add("enter")
    def _accept(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.document.is_cursor_at_the_end and buffer.text.endswith("\\"):
            buffer.delete_before_cursor()
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @bindings.add("escape", "enter")
    def _break_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return bindings


def _open_history(path: Path) -> History:
    """The file if it can be written, readable for its owner only; else nothing is remembered after the chat."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        return FileHistory(str(path))
    return InMemoryHistory()
