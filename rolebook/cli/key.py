"""``rolebook keys``: what programs call with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from rolebook.cli.command import group
from rolebook.cli.invocation import Invocation, pass_invocation
from rolebook.report.money import UNKNOWN

if TYPE_CHECKING:
    from rolebook.core.access import ApiKey
    from rolebook.core.budget import Spending


@group(
    help="""List the API keys, with what they have used this month.

    With a key a program talks to personas on behalf of a user. The key itself was shown once and is kept nowhere. What
    is reserved counts in a budget, too: for turns that still run, and for those whose use is not known.""",
    examples="""
    rolebook keys
    rolebook keys add Ada --name phone --persona teacher --tokens-per-day 100000
    rolebook keys revoke 01kajq3m5w8r2c9x0v
    """,
)
@click.option("--user", "name", metavar="NAME", default="", help="Only those of this user.")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
@pass_invocation
@click.pass_context
def keys(context: click.Context, invocation: Invocation, /, name: str, as_json: bool) -> None:
    if context.invoked_subcommand:
        return
    accounts, terminal = invocation.rolebook.accounts, invocation.terminal
    found = [
        (key, *accounts.spending(key))
        for key in accounts.list_keys(accounts.get_user(name) if name else None)
    ]
    if as_json:
        terminal.write_json([_as_data(*row) for row in found])
        return
    headings = (
        "ID",
        "User",
        "Name",
        "Key",
        "Opens",
        "Turns",
        "Tokens",
        "Cost",
        "Reserved",
        "Revoked",
    )
    terminal.write_table(headings, [_row(key, month) for key, _, month in found])
    if not found:
        terminal.tell("There are no keys.")


def _row(key: ApiKey, month: Spending) -> Sequence[str]:
    return (
        key.id,
        key.user.name,
        key.name,
        f"{key.hint}…",
        " ".join(key.scope),
        str(month.turns),
        str(month.tokens),
        _cost(month),
        " ".join(_reserved(key, month)),
        key.revoked_at[:10],
    )


def _cost(spent: Spending) -> str:
    if spent.without_cost and not spent.cost:
        return UNKNOWN
    return f"{'≥ ' if spent.without_cost else ''}${spent.cost:.4f}"


def _reserved(key: ApiKey, month: Spending) -> Iterator[str]:
    """What counts beside what was used; nothing where no budget is looked at."""
    if key.limits.has_budget:
        yield str(month.reserved_tokens)
    if key.limits.has_cost:
        yield f"${month.reserved_cost:.4f}"


def _as_data(key: ApiKey, day: Spending, month: Spending) -> dict[str, Any]:
    return {
        "id": key.id,
        "user": key.user.name,
        "name": key.name,
        "hint": key.hint,
        "scope": key.scope,
        "limits": asdict(key.limits),
        "today": asdict(day),
        "this_month": asdict(month),
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
    }


@keys.command(
    help="""Make a key for a user and print it, this once.

    Without a limit there is none. Days and months are those of UTC. A key with personas or a budget only talks, and
    sees only the sessions that were begun with it.""",
    examples="""
    rolebook keys add Ada --name phone
    rolebook keys add Ada --name lessons --persona teacher --persona friend@production
    rolebook keys add Ada --name ci --requests-per-minute 60 --cost-per-month 5
    """,
)
@click.argument("user", metavar="USER")
@click.option("--name", metavar="TEXT", default="", help="What it is for.")
@click.option(
    "--persona",
    "scope",
    metavar="ID",
    multiple=True,
    help="A persona that it opens, also as ID@LABEL; repeat it for more. Without any, all of them.",
)
@click.option(
    "--requests-per-minute",
    metavar="NUMBER",
    default="",
    help="Requests a minute; after a pause, so many at once.",
)
@click.option("--tokens-per-day", metavar="NUMBER", default="", help="Tokens in a day at most.")
@click.option("--tokens-per-month", metavar="NUMBER", default="", help="Tokens in a month at most.")
@click.option("--cost-per-day", metavar="NUMBER", default="", help="US dollars in a day at most.")
@click.option(
    "--cost-per-month", metavar="NUMBER", default="", help="US dollars in a month at most."
)
@pass_invocation
def add(
    invocation: Invocation, /, user: str, name: str, scope: tuple[str, ...], **limits: str
) -> None:
    from rolebook.core.access import parse_scope
    from rolebook.core.budget import parse_limits

    accounts, terminal = invocation.rolebook.accounts, invocation.terminal
    key, token = accounts.create_key(
        accounts.get_user(user), name, scope=parse_scope(scope), limits=parse_limits(limits)
    )
    terminal.write_line(token)
    terminal.tell("This is the only time that the key is shown.")
    if unknown := invocation.rolebook.unknown_personas(key.scope):
        terminal.tell(
            "No persona goes by %(names)s yet. The key opens it once there is one; check the spelling.",
            names=terminal.translator.punctuation.listing.join(unknown),
        )


@keys.command(
    help="Revoke keys: programs that call with them are refused from now on.",
    examples="rolebook keys revoke 01kajq3m5w8r2c9x0v",
)
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@pass_invocation
def revoke(invocation: Invocation, ids: tuple[str, ...]) -> None:
    accounts = invocation.rolebook.accounts
    for key in [accounts.get_key(key_id) for key_id in ids]:
        accounts.revoke_key(key)
        invocation.terminal.tell("Revoked: %(name)s %(hint)s…", name=key.name, hint=key.hint)
