"""``rolebook models``: what can answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from rolebook.cli.command import command
from rolebook.cli.invocation import Invocation, pass_invocation
from rolebook.cli.terminal import Terminal

if TYPE_CHECKING:
    from rolebook.core.completion import Model

_HELP = """List the models of an upstream, or show one of them.

With --find-local it looks instead for model servers on this computer (Ollama, LM Studio, llama.cpp, vLLM) and says how
to use them."""

_EXAMPLES = """
rolebook models
rolebook models gpt-4o-mini --json
rolebook models --upstream ollama
rolebook models --find-local
"""


@command(help=_HELP, examples=_EXAMPLES)
@click.argument("model_id", metavar="[ID]", required=False)
@click.option("--find-local", is_flag=True, help="Look for model servers on this computer.")
@click.option("--upstream", metavar="NAME", default="", help="The upstream that is asked.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
@pass_invocation
def models(
    invocation: Invocation, model_id: str | None, find_local: bool, upstream: str, as_json: bool
) -> None:
    if find_local:
        _show_local(invocation, as_json=as_json)
        return
    asked = invocation.rolebook.upstreams.get(upstream)
    terminal = invocation.terminal
    if model_id:
        _show_model(terminal, asked.model(model_id), as_json=as_json)
        return
    found = asked.models()
    if as_json:
        terminal.write_json([_as_data(model) for model in found])
    else:
        terminal.write_table(
            ("Model", "Owner", "Since"),
            [(model.id, model.owned_by, model.created_at[:10]) for model in found],
        )
    terminal.tell(
        "Upstream: %(upstream)s, models: %(count)d.", count=len(found), upstream=asked.name
    )
    if invocation.rolebook.settings.is_rehearsal and not upstream:
        terminal.tell(
            "No upstream is set, so rehearsal answers. Set OPENAI_API_KEY or OPENAI_BASE_URL;"
            " `rolebook models --find-local` looks for a model server on this computer."
        )


def _as_data(model: Model) -> dict[str, Any]:
    return {"id": model.id, "owned_by": model.owned_by, "created_at": model.created_at}


def _show_model(terminal: Terminal, model: Model, *, as_json: bool) -> None:
    if as_json:
        terminal.write_json({**_as_data(model), "details": model.details})
        return
    details: Mapping[str, Any] = {**_as_data(model), **model.details}
    for name, value in details.items():
        terminal.write_line(f"{name}: {value}")


def _show_local(invocation: Invocation, *, as_json: bool) -> None:
    from rolebook.upstream.discovery import find_local_servers

    servers = find_local_servers(own_ports=[invocation.rolebook.settings.port])
    terminal = invocation.terminal
    if as_json:
        terminal.write_json([{**asdict(server), "usage": server.usage} for server in servers])
        return
    for server in servers:
        terminal.write_line(f"{server.kind}\t{server.base_url}")
        for model in server.models:
            terminal.write_line(f"  {model}")
        terminal.tell("Use it with: %(usage)s rolebook ask assistant Hello", usage=server.usage)
    if not servers:
        terminal.tell(
            "No model server answers on this computer. Start Ollama, LM Studio, llama.cpp or vLLM and look again,"
            " or set OPENAI_BASE_URL to any OpenAI-compatible server."
        )
