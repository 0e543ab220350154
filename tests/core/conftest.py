"""Personas and templates from data, rendered by the real workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from rolebook.core.message import Message
from rolebook.core.persona import ResolvedPersona, parse_persona
from rolebook.core.prompt import Prompt, PromptRenderer, history_messages
from rolebook.core.sandbox import Sandbox

CHAT = """\
{% message "system" %}{{ system }}{% endmessage %}
{% for example in examples %}
{% message "user" %}{{ example.user }}{% endmessage %}
{% message "assistant" %}{{ example.assistant }}{% endmessage %}
{% endfor %}
{% history %}
{% message "user" %}{{ input }}{% endmessage %}
"""


class Rendering:
    """Renders from plain data."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.renderer = PromptRenderer(sandbox)

    def prompt(
        self,
        template: str = CHAT,
        *,
        persona: Mapping[str, Any] | None = None,
        values: Mapping[str, Any] | None = None,
        history: Sequence[tuple[str, str]] = (),
        input_text: str = "x",
        more: Mapping[str, str] | None = None,
    ) -> Prompt:
        data = {"template": "chat", **(persona or {"name": "p", "system": "s"})}
        resolved = ResolvedPersona(parse_persona("p", data), {"chat": template, **(more or {})})
        return self.renderer.render(
            resolved,
            resolved.persona.parse_variables(values or {}),
            history_messages(history),
            input_text,
        )

    def pairs(self, template: str = CHAT, **arguments: Any) -> list[tuple[str, str]]:
        return [(m.role, m.content) for m in self.prompt(template, **arguments).messages]


@pytest.fixture(scope="session")
def rendering() -> Iterator[Rendering]:
    sandbox = Sandbox()
    yield Rendering(sandbox)
    sandbox.close()


def spans(message: Message) -> list[tuple[str, str, str]]:
    """The spans of a message as plain data."""
    return [(span.text, span.origin.value, span.name) for span in message.spans]
