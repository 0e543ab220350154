"""``rolebook replay``: a session once more, with other personas in the place of its own."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from rolebook.cli.choices import Choices, as_variant, grid_options
from rolebook.cli.command import command
from rolebook.cli.comparing import Given, carry_out
from rolebook.cli.invocation import Invocation, pass_invocation
from rolebook.core.errors import InputError, RolebookError

if TYPE_CHECKING:
    from rolebook.core.session import Session
    from rolebook.wiring import Rolebook

_HELP = """Say to other personas what was said in a session, beside what was answered there.

ID is a persona, or teacher@3f9c2a for an earlier revision of it; without any, the session's own persona answers again,
as it is now, also where it was renamed since. It keeps the model and the parameters that were chosen for the session,
unless -m or -s says otherwise. Each input is answered after the recorded answers before it, so that the answers align;
with --free every persona goes on from its own. The result is a comparison like any other, with the recorded answers as
one of its variants."""

_EXAMPLES = """
rolebook replay 01kajq3m5w8r2c9x0v socratic-teacher
rolebook replay 01kajq3m5w8r2c9x0v teacher teacher@3f9c2a --free
rolebook replay 01kajq3m5w8r2c9x0v -m gpt-4o -m gpt-4o-mini --no-recorded
"""


@command(help=_HELP, examples=_EXAMPLES)
@click.argument("session_id", metavar="SESSION")
@click.argument("names", metavar="[ID]...", nargs=-1)
@click.option("--free", "is_free", is_flag=True, help="Go on from each persona's own answers.")
@click.option("--no-recorded", is_flag=True, help="Leave the recorded answers out.")
@grid_options
@pass_invocation
def replay(
    invocation: Invocation,
    session_id: str,
    names: tuple[str, ...],
    choices: Choices,
    is_free: bool,
    no_recorded: bool,
) -> None:
    rolebook = invocation.rolebook
    session = rolebook.log.get_session(session_id)
    # A file that has just got another name is known by the old one, too.
    rolebook.recorder.record()
    own = rolebook.finder.present_id(session)
    if not names and not own:
        raise InputError(
            "This session's persona has no file to answer again from: give the ids of others."
        )
    history = "free" if is_free else "fixed"
    data = {
        "variants": [_variant(rolebook, session, name) for name in names or [own]],
        "inputs": [{"session": session_id, "history": history}],
        "recorded": not no_recorded,
    }
    carry_out(invocation, Given(data), choices)


def _variant(rolebook: Rolebook, session: Session, name: str) -> dict[str, Any]:
    """The session's own persona is asked as it was there, with the same model and parameters."""
    variant = as_variant(name)
    if rolebook.finder.is_own(session, variant["persona"], variant["revision"]):
        # Where there is no such revision, the plan says so.
        with suppress(RolebookError):
            persona = rolebook.find_persona(name).persona
            return {**variant, **rolebook.compare.chosen_in(session, persona)}
    return variant
