"""One run of the program: what it was given, and what it opens when that is first needed."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import click

from rolebook.cli.terminal import Terminal
from rolebook.config import LANGUAGES, language_of_terminal

if TYPE_CHECKING:
    from rolebook.core.sandbox import Sandbox
    from rolebook.wiring import Rolebook

#: So many objects more than before, and Python looks for garbage among them.
_MANY_OBJECTS = 50_000


class Invocation:
    """The flags and the environment of one command, its terminal and its Rolebook.

    Arguments:
        environment: the environment variables.
        sandbox: where prompts are rendered, if that has been started already; it is closed with all else.
    """

    def __init__(self, environment: Mapping[str, str], sandbox: Sandbox | None = None) -> None:
        self.environment = environment
        self.flags: dict[str, str] = {}
        self.speaker: Callable[[str], Terminal] = Terminal
        """Makes what the command speaks through, for a language."""
        self.on_open: Callable[[Rolebook], None] | None = None
        """Called with the Rolebook when it is opened, before anything is said of it."""
        self._rolebook: Rolebook | None = None
        self._sandbox = sandbox

    @property
    def language(self) -> str:
        """As the settings say, as far as they are known yet, else as the terminal asks."""
        if self._rolebook:
            chosen = self._rolebook.settings.language
        else:
            chosen = self.flags.get("language") or self.environment.get("ROLEBOOK_LANGUAGE", "")
        return chosen if chosen in LANGUAGES else language_of_terminal(self.environment)

    @property
    def terminal(self) -> Terminal:
        """Where the command speaks, in the language known so far."""
        return self.speaker(self.language)

    @property
    def rolebook(self) -> Rolebook:
        """Opened when it is first asked for. Raises SettingError, FileError."""
        if self._rolebook is None:
            from rolebook.wiring import open_rolebook

            self._rolebook = open_rolebook(
                environment=self.environment, flags=self.flags, sandbox=self._sandbox
            )
            # What is loaded now stays to the end: there is no garbage among it.
            gc.freeze()
            gc.set_threshold(_MANY_OBJECTS)
            gc.enable()
            if self.on_open:
                self.on_open(self._rolebook)
            for message, parameters in self._rolebook.settings.notices:
                self.terminal.tell(message, **parameters)
        return self._rolebook

    def warm_sandbox(self) -> None:
        """Start the process that renders prompts, so that it gets ready while this one imports what else is needed."""
        from rolebook.core.sandbox import Sandbox

        if self._sandbox is None:
            self._sandbox = self._rolebook.sandbox if self._rolebook else Sandbox()
        self._sandbox.warm()

    def close(self) -> None:
        """Close what was opened."""
        if self._rolebook is not None:
            self._rolebook.close()
        elif self._sandbox is not None:
            self._sandbox.close()


pass_invocation = click.make_pass_decorator(Invocation)
"""Gives a command its invocation as first argument."""
