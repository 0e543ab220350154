"""``rolebook users``: who may log in, and as what."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from rolebook.cli.command import group
from rolebook.cli.invocation import Invocation, pass_invocation

if TYPE_CHECKING:
    from rolebook.core.access import User

#: As core.access.Role has them; named here so that help needs nothing of it.
_ROLES = ("reader", "author", "administrator")


@group(
    help="""List who may log in.

    As long as there is nobody, no login is needed and Rolebook answers this computer only. Once there is a user,
    everyone logs in, on this computer too, unless the setting login says never.""",
    examples="""
    rolebook users
    rolebook users add Ada --role administrator
    rolebook users role Ada author
    rolebook users remove Ada
    """,
)
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
@pass_invocation
@click.pass_context
def users(context: click.Context, invocation: Invocation, /, as_json: bool) -> None:
    if context.invoked_subcommand:
        return
    terminal, found = invocation.terminal, invocation.rolebook.accounts.list_users()
    if as_json:
        terminal.write_json([_as_data(user) for user in found])
        return
    headings = ("Name", "Role", "Since")
    terminal.write_table(headings, [_row(user) for user in found])
    if not found:
        terminal.tell(
            "There is nobody yet, so that no login is needed on this computer. The first one:"
            " rolebook users add NAME --role administrator"
        )


def _row(user: User) -> Sequence[str]:
    return user.name, user.role.value, user.created_at[:10]


def _as_data(user: User) -> dict[str, object]:
    data = asdict(user)
    del data["number"]
    return data


@users.command(
    help="""Add somebody who may log in.

    Asks for a password; where there is no terminal, it is the first line of standard input.""",
    examples="""
    rolebook users add Ada --role administrator
    pwgen 20 1 | tee /dev/stderr | rolebook users add Bo
    """,
)
@click.argument("name", metavar="NAME")
@click.option(
    "--role",
    type=click.Choice(_ROLES),
    default="reader",
    show_default=True,
    help="reader: looks and talks. author: also edits and compares. administrator: also sees and manages everything.",
)
@pass_invocation
def add(invocation: Invocation, name: str, role: str) -> None:
    from rolebook.core.access import Role

    accounts = invocation.rolebook.accounts
    if role != Role.ADMINISTRATOR and not accounts.has_users():
        raise click.UsageError(
            invocation.terminal.gettext(
                "The first user must be an administrator: add --role administrator."
            )
        )
    user = accounts.create_user(name, Role(role), _password(invocation))
    invocation.terminal.tell("%(name)s may log in, as %(role)s.", name=user.name, role=role)


@users.command(
    help="Give somebody another password, which logs them out everywhere.",
    examples="rolebook users password Ada",
)
@click.argument("name", metavar="NAME")
@pass_invocation
def password(invocation: Invocation, name: str) -> None:
    accounts = invocation.rolebook.accounts
    user = accounts.get_user(name)
    accounts.set_password(user, _password(invocation))
    invocation.terminal.tell("%(name)s has another password.", name=user.name)


@users.command(
    help="Give somebody another role.",
    examples="rolebook users role Ada author",
)
@click.argument("name", metavar="NAME")
@click.argument("role", metavar="ROLE", type=click.Choice(_ROLES))
@pass_invocation
def role(invocation: Invocation, name: str, role: str) -> None:
    from rolebook.core.access import Role

    accounts = invocation.rolebook.accounts
    user = accounts.get_user(name)
    accounts.set_role(user, Role(role))
    invocation.terminal.tell("%(name)s is %(role)s now.", name=user.name, role=role)


@users.command(
    help="Remove somebody, with their API keys. What they said stays in the log.",
    examples="rolebook users remove Ada",
)
@click.argument("name", metavar="NAME")
@click.option(
    "--last",
    "may_be_last",
    is_flag=True,
    help="Also the last one: then nobody has to log in any more.",
)
@pass_invocation
def remove(invocation: Invocation, name: str, may_be_last: bool) -> None:
    accounts = invocation.rolebook.accounts
    user = accounts.get_user(name)
    accounts.remove_user(user, may_be_last=may_be_last)
    invocation.terminal.tell("%(name)s is removed.", name=user.name)
    if not accounts.has_users():
        invocation.terminal.tell("That was the last one: nobody has to log in any more.")


def _password(invocation: Invocation) -> str:
    """Asked for twice without being shown; a first line where nobody sits at a terminal."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    say = invocation.terminal.gettext
    return str(
        click.prompt(
            say("Password"), hide_input=True, confirmation_prompt=say("Once more"), err=True
        )
    )
