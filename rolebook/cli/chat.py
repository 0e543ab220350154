"""``rolebook chat``: a session, turn by turn."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from rolebook.cli.command import command
from rolebook.cli.invocation import Invocation, pass_invocation
from rolebook.cli.role import Role, role_options
from rolebook.core.errors import InputError, NotFoundError, RolebookError, StorageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolebook.cli.reader import Reader
    from rolebook.core.chat import TurnRequest
    from rolebook.core.persona import ResolvedPersona
    from rolebook.core.session import Session

_HELP = """Talk to a persona.

Alone on a line, these words steer: new (start over), retry (ask the last input again; both answers are kept), save ID
[NAME] (keep a described role as a persona), help, quit. To say such a word to the persona, begin the line with a space.

Alt-Enter, or a backslash at the end of a line, goes on in the next line; the arrows recall earlier inputs; Ctrl-C stops
an answer; Ctrl-D ends. Nothing that fails ends the chat."""

_EXAMPLES = """
rolebook chat teacher -v subject=chemistry
rolebook chat --system "You are a pirate who knows tax law."
rolebook chat --session 01kajq3m5w8r2c9x0v
"""

_RECALLED_TURNS = 3
_SAVE = re.compile(r"save\s+(\S+)(?:\s+(.+))?")


@command(help=_HELP, examples=_EXAMPLES)
@role_options
@click.option("--session", "session_id", metavar="ID", default="", help="Go on with this session.")
@pass_invocation
def chat(invocation: Invocation, role: Role, session_id: str) -> None:
    invocation.warm_sandbox()
    rolebook = invocation.rolebook
    from rolebook.cli.reader import open_reader
    from rolebook.upstream.openai_upstream import warm_up

    warm_up()
    talk = _pick_up(invocation, role, session_id) if session_id else _begin(invocation, role)
    talk.run(open_reader(rolebook.settings.database.parent / "chat_history"))


def _begin(invocation: Invocation, role: Role) -> Talk:
    talk = Talk(invocation, role, role.start_session(invocation.rolebook))
    talk.introduce()
    return talk


def _pick_up(invocation: Invocation, role: Role, session_id: str) -> Talk:
    rolebook = invocation.rolebook
    session = rolebook.log.get_session(session_id)
    # A file that has just got another name is known by the old one, too.
    rolebook.recorder.record()
    names = ("", session.persona_id, rolebook.finder.present_id(session))
    if role.system is not None or role.persona_id not in names:
        raise InputError(
            "This session has its persona already: give --session without another one."
        )
    if role.variables or role.upstream:
        raise InputError(
            "The variables and the upstream of a session stay as they were chosen at its start."
        )
    talk = Talk(invocation, role, session)
    talk.recall()
    return talk


class Talk:
    """One chat: the session that is running, and the words that steer it.

    Arguments:
        role: what was chosen on the command line; new sessions begin with it.
        session: the one to begin with.
    """

    def __init__(self, invocation: Invocation, role: Role, session: Session) -> None:
        self._invocation = invocation
        self._rolebook = invocation.rolebook
        self._terminal = invocation.terminal
        self._role = role
        self._session = session
        self._is_resumed = not role.is_chosen
        self._has_turns = self._is_resumed
        self._awaited: dict[str, Sequence[str]] = {}

    def introduce(self) -> None:
        """Show who is there, and what the persona says first."""
        resolved = self._persona()
        self._terminal.tell(
            "%(name)s. Say something; help lists the words that steer.", name=resolved.persona.name
        )
        greeting = self._rolebook.chat.greeting_of(self._session, resolved)
        if greeting:
            self._terminal.write_line(greeting)

    def recall(self) -> None:
        """Show the last turns of a session that goes on."""
        turns = self._rolebook.log.history(self._session.id)
        self._terminal.tell(
            "%(name)s. Turns so far: %(count)d.",
            name=self._persona().persona.name,
            count=len(turns),
        )
        for turn in turns[-_RECALLED_TURNS:]:
            self._terminal.write_styled(f"› {turn.input}\n", bold=True)
            self._terminal.write_line(turn.text)

    def run(self, reader: Reader) -> None:
        """Read and answer until there is no more to read, or quit."""
        while (line := reader.read()) is not None and line.rstrip() != "quit":
            if not line.strip():
                continue
            try:
                self._tell_judgements()
                self._take(line)
            except RolebookError as error:
                self._terminal.fail(error)
        with suppress(StorageError):
            self._tell_judgements()
        if self._has_turns:
            self._terminal.tell(
                "Go on later with: rolebook chat --session %(id)s", id=self._session.id
            )

    def _take(self, line: str) -> None:
        """Obey a word that steers, or say the line to the persona."""
        word = line.rstrip()
        saving = _SAVE.fullmatch(word)
        if word == "new":
            self._start_over()
        elif word == "retry":
            self._retry()
        elif word == "help":
            self._help()
        elif saving and not self._session.persona_id:
            self._save(saving[1], saving[2] or "")
        else:
            self._say(line)

    def _start_over(self) -> None:
        if self._is_resumed:
            self._session = self._again()
        else:
            self._session = self._role.start_session(self._rolebook)
        self._has_turns = False
        self.introduce()

    def _again(self) -> Session:
        """A new session with the choices of the one that was picked up."""
        from rolebook.core.session import new_id, now

        old, log, chat = self._session, self._rolebook.log, self._rolebook.chat
        session = replace(old, id=new_id(), title="", tags=(), is_starred=False, created_at=now())
        session = replace(session, persona_id=chat.present_id(old), forked_from="")
        if old.persona_id:
            return chat.start_session(session)
        # The revision is the only home of a role without a file.
        log.create_session(session, log.get_revision(old.revision))
        return session

    def _retry(self) -> None:
        try:
            last = self._rolebook.log.last_turn(self._session.id)
        except NotFoundError:
            raise InputError("There is nothing to ask again yet.") from None
        self._answer(self._request(last.input, position=last.position))

    def _save(self, persona_id: str, name: str) -> None:
        from rolebook.cli.persona import save_persona

        save_persona(self._invocation, self._session.id, persona_id, name)

    def _help(self) -> None:
        for text in _HELP.split("\n\n")[1:]:
            self._terminal.tell(" ".join(text.split()))

    def _say(self, line: str) -> None:
        self._answer(self._request(line))

    def _request(self, text: str, position: int = 0) -> TurnRequest:
        from rolebook.core.chat import TurnRequest
        from rolebook.core.persona import parse_parameters

        parameters = parse_parameters(self._role.parameters) if self._is_resumed else {}
        return TurnRequest(
            self._session.id, text, position=position, parameters=parameters, model=self._role.model
        )

    def _answer(self, request: TurnRequest) -> None:
        from rolebook.cli.answer import (
            AnswerWriter,
            figures,
            results_of,
            run_turn,
            tell_turn,
            tell_unwritten,
        )

        self._has_turns = True
        writer = AnswerWriter(self._terminal, ends_line=True)
        try:
            turn = run_turn(self._rolebook, request, writer)
        except KeyboardInterrupt:
            writer.break_off()
            self._terminal.tell("Stopped. What had arrived is in the log.")
            return
        awaited = self._awaited[turn.id] = self._rolebook.live_checks.being_judged(turn.id)
        results = results_of(self._rolebook, turn.id)
        # What is judged in between is told with what is judged later.
        tell_turn(self._terminal, turn, [r for r in results if r.label not in awaited])
        tell_unwritten(self._terminal, self._rolebook)
        if self._terminal.is_interactive and turn.status == "complete":
            self._terminal.tell_line(figures(self._terminal, turn))

    def _tell_judgements(self) -> None:
        """What judges have said meanwhile."""
        from rolebook.cli.answer import results_of, tell_checks

        known, self._awaited = self._awaited, {}
        for turn_id, awaited in known.items():
            left = self._rolebook.live_checks.being_judged(turn_id)
            told = set(awaited) - set(left)
            results = results_of(self._rolebook, turn_id) if told else ()
            tell_checks(self._terminal, [result for result in results if result.label in told])
            if left:
                self._awaited[turn_id] = left

    def _persona(self) -> ResolvedPersona:
        return self._rolebook.chat.persona_of(self._session)
