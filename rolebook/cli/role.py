"""Who is talked to, as chosen on the command line: a persona or a described role, and what goes over its choices."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from rolebook.core.errors import InputError
from rolebook.core.frozen import frozen

if TYPE_CHECKING:
    from rolebook.core.persona import ResolvedPersona
    from rolebook.core.session import Session
    from rolebook.wiring import Rolebook


@frozen
class Role:
    """The choices. ``persona_id`` is empty for a role without a file; ``system`` is ``None`` for one with a file.

    ``teacher@production`` and ``teacher@3f9c`` are ids too.
    """

    persona_id: str
    system: str | None
    variables: dict[str, str]
    parameters: dict[str, str]
    model: str
    upstream: str

    @property
    def is_chosen(self) -> bool:
        """Whether the command line says who it is."""
        return bool(self.persona_id) or self.system is not None

    def resolve(self, rolebook: Rolebook) -> ResolvedPersona:
        """The persona as it is now, or as it was at a label or revision. Raises NotFoundError, FileError."""
        if self.system is not None:
            return rolebook.library.get_described(self.system)
        return rolebook.find_persona(self.persona_id)

    def as_session(self) -> Session:
        """A session with these choices, not recorded yet. Raises InputError."""
        from rolebook.core.persona import parse_parameters
        from rolebook.core.session import Session, new_id

        return Session(
            id=new_id(),
            persona_id=self.persona_id,
            revision="",
            variables=self.variables,
            upstream=self.upstream,
            model=self.model,
            parameters=parse_parameters(self.parameters),
        )

    def start_session(self, rolebook: Rolebook) -> Session:
        """Begin a session and record it. Raises what ChatService.start_session raises."""
        self.check()
        return rolebook.chat.start_session(self.as_session(), system=self.system or "")

    def check(self) -> None:
        """Raises InputError unless it is clear who is meant."""
        if self.system is None and not self.persona_id:
            raise InputError(
                "Which persona? Give its id (`rolebook personas` lists them), or describe a role with --system."
            )
        if self.system is not None and self.persona_id:
            raise InputError("Give either a persona's id or --system, not both.")


class _Assignment(click.ParamType[tuple[str, str]]):
    name = "name=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        name, equals, text = str(value).partition("=")
        if not equals or not name.strip():
            raise InputError("Write it as name=value, got '%(got)s'.", got=value)
        return name.strip(), text


_OPTIONS = (
    click.option("--system", metavar="TEXT", help="Describe a role here instead of naming one."),
    click.option(
        "-v",
        "--variable",
        "variables",
        type=_Assignment(),
        multiple=True,
        help="Fill in a variable of the persona; may be repeated.",
    ),
    click.option(
        "-s",
        "--set",
        "parameters",
        type=_Assignment(),
        multiple=True,
        help="Set a sampling parameter or any other request field; may be repeated. An empty value leaves out "
        "what the persona sets.",
    ),
    click.option("-m", "--model", metavar="MODEL", default="", help="The model that answers."),
    click.option("--upstream", metavar="NAME", default="", help="The upstream that is called."),
)


def role_options(function: Callable[..., None]) -> Callable[..., None]:
    """Adds the argument ID and the options that choose a role; the function gets them as ``role``."""

    @wraps(function)
    def with_role(*args: Any, persona_id: str | None, system: str | None, **given: Any) -> None:
        role = Role(
            persona_id=persona_id or "",
            system=system,
            variables=dict(given.pop("variables")),
            parameters=dict(given.pop("parameters")),
            model=given.pop("model"),
            upstream=given.pop("upstream"),
        )
        function(*args, role=role, **given)

    decorated = with_role
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return click.argument("persona_id", metavar="[ID]", required=False)(decorated)


def settle_input(role: Role, input_text: str | None) -> tuple[Role, str | None]:
    """With ``--system`` the first word after the command is the input and no id. Raises InputError."""
    if role.system is not None and role.persona_id and input_text is None:
        return replace(role, persona_id=""), role.persona_id
    role.check()
    return role, input_text


def read_input(given: str | None) -> str:
    """The input itself; ``-``, or none where standard input is no terminal, is read from there.

    Standard input is taken as it is, less one final newline. Raises InputError.
    """
    stdin = sys.stdin.buffer
    if given is not None and given != "-":
        return given
    text = "" if given is None and stdin.isatty() else _decode(stdin.read())
    if not text.strip():
        # An empty pipe, such as `git diff` without a difference, is no reason to pay for a call.
        raise InputError(
            "What shall be asked? Give the input after the persona's id, or - to read it from standard input."
        )
    return text


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise InputError(
            "Standard input is not UTF-8 (its byte %(place)d). Convert it first, with iconv for example.",
            place=error.start + 1,
        ) from None
