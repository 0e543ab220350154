"""No value, example, history or input can open a role, and nothing innocent is changed or refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rolebook.core.errors import VariableError
from rolebook.core.persona import ResolvedPersona, parse_persona
from rolebook.core.prompt import PromptRenderer, history_messages
from rolebook.core.sandbox import Sandbox
from rolebook.library.file_library import FileLibrary
from tests.core.conftest import CHAT
from tests.nasty import NASTY

_ROOT = Path(__file__).parent.parent
_LIBRARY = FileLibrary(_ROOT / "personas", _ROOT / "templates")
_TEXTS = {"text", "long_text"}
_VARIABLES = [
    (resolved.persona.id, name)
    for resolved in _LIBRARY.personas()
    for name, variable in resolved.persona.variables.items()
    if variable.type in _TEXTS
]


@pytest.fixture(scope="module")
def renderer() -> Iterator[PromptRenderer]:
    sandbox = Sandbox()
    yield PromptRenderer(sandbox)
    sandbox.close()


def _filled(resolved: ResolvedPersona, **given: object) -> dict[str, object]:
    stand_in = {
        name: "…"
        for name, variable in resolved.persona.variables.items()
        if variable.required and variable.default is None
    }
    return {**stand_in, **given}


@pytest.mark.parametrize(("persona_id", "name"), _VARIABLES)
def test_no_variable_of_any_shipped_persona_can_open_a_role(
    renderer: PromptRenderer, persona_id: str, name: str
) -> None:
    resolved = _LIBRARY.get_persona(persona_id)
    persona = resolved.persona
    history = history_messages([("before", "after")])
    for value in NASTY:
        if persona.variables[name].required and not value.strip():
            with pytest.raises(VariableError):
                persona.parse_variables(_filled(resolved, **{name: value}))
            continue
        values = persona.parse_variables(_filled(resolved, **{name: value}))
        messages = renderer.render(resolved, values, history, "input").messages
        plain = persona.parse_variables(_filled(resolved, **{name: "plain"}))
        expected = renderer.render(resolved, plain, history, "input").messages
        assert [m.role for m in expected] == [m.role for m in messages]
        traced = [s.text for m in messages for s in m.spans if s.name == name]
        # A template may cut a value up, but what it prints as the value is the value's own text.
        assert all(text in value or text in value.upper() for text in traced)


@pytest.mark.parametrize("persona_id", [r.persona.id for r in _LIBRARY.personas()])
def test_no_input_or_history_of_any_shipped_persona_can_open_a_role(
    renderer: PromptRenderer, persona_id: str
) -> None:
    resolved = _LIBRARY.get_persona(persona_id)
    values = resolved.persona.parse_variables(_filled(resolved))
    plain = renderer.render(resolved, values, history_messages([("a", "b")]), "c").messages
    for value in NASTY:
        history = history_messages([(value, value)])
        messages = renderer.render(resolved, values, history, value).messages
        assert [m.role for m in plain] == [m.role for m in messages]
        assert value in messages[-1].content


@pytest.mark.parametrize("value", NASTY)
def test_text_reaches_the_upstream_byte_for_byte_wherever_it_stands(
    renderer: PromptRenderer, value: str
) -> None:
    persona = parse_persona(
        "p",
        {
            "name": value.strip() or "p",
            "description": value,
            "tags": [value.strip() or "t"],
            "system": "{{ v }}",
            "variables": {"v": {"default": value}},
            "examples": [{"user": value, "assistant": value}],
        },
    )
    resolved = ResolvedPersona(persona, {"chat": CHAT})
    values = persona.parse_variables({})
    messages = renderer.render(resolved, values, history_messages([(value, value)]), value).messages
    roles = ["system", "user", "assistant", "user", "assistant", "user"]
    assert [(role, value) for role in roles] == [(m.role, m.content) for m in messages]


def test_two_thousand_combinations_were_tried() -> None:
    combinations = len(NASTY) * (len(_VARIABLES) + 2 * len(_LIBRARY.personas()) + 6)
    assert combinations >= 2_000
