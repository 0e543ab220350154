"""What a prompt template makes of a persona, a history and an input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from rolebook.core.errors import PromptError
from rolebook.core.persona import Place, ResolvedPersona, parse_persona
from tests.core.conftest import CHAT, Rendering, spans

_TESTS = Path(__file__).parent.parent
_CASES = [
    case
    for path in sorted((_TESTS / "render_cases").glob("*.yaml"))
    for case in yaml.safe_load(path.read_text("utf-8"))
]


@pytest.mark.parametrize("case", _CASES, ids=[case["name"] for case in _CASES])
def test_case(rendering: Rendering, case: dict[str, Any]) -> None:
    shipped = _TESTS.parent / "templates" / f"{case.get('shipped')}.jinja"
    # Another input before must leave nothing behind.
    for input_text in ("another", case.get("input", "x")):
        pairs = rendering.pairs(
            case.get("template") or shipped.read_text("utf-8"),
            persona=case.get("persona"),
            history=[tuple(turn) for turn in case.get("history", [])],
            input_text=input_text,
        )
    assert [tuple(message) for message in case["messages"]] == pairs


MISTAKES = [
    ("\n{% message 'narrator' %}x{% endmessage %}", 2, "unknown role 'narrator'"),
    ("{% message 'prompt' %}x{% endmessage %}", 1, "unknown role 'prompt'"),
    ("{% set r = 'root' %}\n{% message r %}x{% endmessage %}", 2, "unknown role 'root'"),
    ("{% message 'user' %}x{% endmessage %}\n\nstray", 3, "'stray' stands outside"),
    ("{% message 'user' %}x{% endmessage %}\n{{ input }}", 2, "'x' stands outside"),
    (
        "{% message 'user' %}\n{% message 'user' %}{% endmessage %}{% endmessage %}",
        2,
        "inside a message",
    ),
    ("{% message 'user' %}\n\n{% history %}{% endmessage %}", 3, "inside a message"),
    (
        "{% macro m() %}{% message 'user' %}{% endmessage %}{% endmacro %}"
        "{% message 'user' %}{{ m() }}{% endmessage %}",
        1,
        "a tag inside a message",
    ),
    ("{% message 'user' %}\n{{ nope }}{% endmessage %}", 2, "There is no 'nope' here"),
    (
        "{% message 'user' %}\n{{ persona.nope }}{% endmessage %}",
        2,
        "nothing that is called 'nope'",
    ),
    ("\n\n{% if %}", 3, "Something is missing in this tag"),
    ("{% message 'user' %}x", 1, "endmessage"),
    ("{% include 'gone' %}", 1, "no prompt template 'gone'"),
    ("{% include '../personas/p.yaml' %}", 1, "no prompt template"),
    ("{% include 'chat' %}", 1, "without end"),
    ("{% message 'user' %}{{ 1 // 0 }}{% endmessage %}", 1, "zero"),
    ("{% message 'user' %}{{ input() }}{% endmessage %}", 1, "not callable"),
    ("{% message 'user' %}\n{{ history.index(1) }}{% endmessage %}", 2, "1 is not in list"),
    (
        "\n{% autoescape true %}{% message 'user' %}<{{ input }}>{% endmessage %}{% endautoescape %}",
        2,
        "'autoescape' makes HTML of texts",
    ),
    (
        "{% message 'user' %}{% autoescape input %}<{% endautoescape %}{% endmessage %}",
        1,
        "'autoescape' makes HTML of texts",
    ),
]


@pytest.mark.parametrize(("template", "line", "words"), MISTAKES)
def test_mistake_is_reported_with_file_and_line(
    rendering: Rendering, template: str, line: int, words: str
) -> None:
    with pytest.raises(PromptError) as caught:
        rendering.prompt(template)
    assert ("chat.jinja", line) == (caught.value.file, caught.value.line)
    assert words in str(caught.value)


def test_mistake_in_the_system_text_names_the_line_of_the_persona_file(
    rendering: Rendering,
) -> None:
    persona = parse_persona("p", {"name": "p", "system": "one\ntwo {{ nope }}\n"})
    resolved = ResolvedPersona(persona, {"chat": CHAT}, {"system": Place("personas/p.yaml", 7)})
    with pytest.raises(PromptError) as caught:
        rendering.renderer.render(resolved, {}, (), "x")
    assert ("personas/p.yaml", 8) == (caught.value.file, caught.value.line)


def test_trial_renderings_reach_the_branch_of_every_choice(rendering: Rendering) -> None:
    persona = parse_persona(
        "p",
        {
            "name": "p",
            "system": "{% if level == 'b' %}{{ nope }}{% endif %}{% if is_on %}{{ nada }}{% endif %}",
            "variables": {
                "level": {"type": "choice", "choices": ["a", "b"]},
                "is_on": {"type": "boolean"},
            },
        },
    )
    problems = rendering.renderer.find_problems(ResolvedPersona(persona, {"chat": CHAT}))
    assert ["nada", "nope"] == sorted(p.text.split("'")[1] for p in problems)


def test_template_that_forgets_the_input_is_a_warning(rendering: Rendering) -> None:
    persona = parse_persona("p", {"name": "p", "system": "s"})
    resolved = ResolvedPersona(
        persona, {"chat": "{% message 'system' %}{{ system }}{% endmessage %}"}
    )
    (problem,) = rendering.renderer.find_problems(resolved)
    assert "warning" == problem.severity
    assert "never reaches the model" in problem.text


@pytest.mark.parametrize(
    ("system", "place", "expected"),
    [
        ("one\ntwo {{ nope }}\n", Place("p.yaml", 7, 2, 2), "p.yaml:8:10"),
        ("a {{ nope }}", Place("p.yaml", 2, offset=8), "p.yaml:2:14"),
        ("a\n  {% if %}", Place("p.yaml", 3, 2, 2), "p.yaml:4:5"),
    ],
)
def test_mistake_in_a_text_is_placed_to_the_column(
    rendering: Rendering, system: str, place: Place, expected: str
) -> None:
    persona = parse_persona("p", {"name": "p", "system": system})
    resolved = ResolvedPersona(persona, {"chat": CHAT}, {"system": place})
    with pytest.raises(PromptError) as caught:
        rendering.renderer.render(resolved, {}, (), "x")
    assert expected == caught.value.place


def test_every_span_says_where_it_came_from(rendering: Rendering) -> None:
    prompt = rendering.prompt(
        CHAT.replace("{{ input }}", "Q: {{ input }} ({{ persona.name }})"),
        persona={
            "name": "Ada",
            "system": "Teach {{ subject }} in {{ n }} steps.",
            "variables": {"subject": "sums", "n": {"type": "integer", "default": 3}},
            "examples": [{"user": "u", "assistant": "a"}],
            "greeting": "Hi, {{ subject }}!",
        },
        history=[("q", "r")],
        input_text="why",
    )
    assert [
        [
            ("Teach ", "system", ""),
            ("sums", "variable", "subject"),
            (" in ", "system", ""),
            ("3", "variable", "n"),
            (" steps.", "system", ""),
        ],
        [("u", "example", "")],
        [("a", "example", "")],
        [("Hi, ", "greeting", ""), ("sums", "variable", "subject"), ("!", "greeting", "")],
        [("q", "history", "")],
        [("r", "history", "")],
        [
            ("Q: ", "template", ""),
            ("why", "input", ""),
            (" (", "template", ""),
            ("Ada", "computed", ""),
            (")", "template", ""),
        ],
    ] == [spans(message) for message in prompt.messages]


def test_spans_joined_are_the_content(rendering: Rendering) -> None:
    prompt = rendering.prompt(
        "{% message 'user' %}{% set t %}<{{ input }}>{% endset %}{{ t }}{{ t | upper }}{{ t ~ 1 }}{% endmessage %}",
        input_text="x",
    )
    (message,) = prompt.messages
    assert "<x><X><x>1" == message.content
    assert message.content == "".join(span.text for span in message.spans)


def test_text_methods_keep_the_origin_of_a_variable(rendering: Rendering) -> None:
    prompt = rendering.prompt(
        "{% message 'user' %}{% for t in plan.split(',') | map('trim') %}{{ t }};{% endfor %}"
        "{{ plan | upper }}{% endmessage %}",
        persona={"name": "p", "system": "s", "variables": {"plan": "one, two"}},
    )
    assert [
        ("one", "variable", "plan"),
        (";", "template", ""),
        ("two", "variable", "plan"),
        (";", "template", ""),
        ("ONE, TWO", "variable", "plan"),
    ] == spans(prompt.messages[0])


def test_editing_a_template_takes_effect_at_the_next_render(rendering: Rendering) -> None:
    before = rendering.pairs("{% message 'user' %}old{% endmessage %}")
    after = rendering.pairs("{% message 'user' %}new{% endmessage %}")
    assert ([("user", "old")], [("user", "new")]) == (before, after)


def test_included_template_renders_with_the_same_names(rendering: Rendering) -> None:
    pairs = rendering.pairs(
        "{% include 'part' %}", more={"part": "{% message 'user' %}{{ input }}{% endmessage %}"}
    )
    assert [("user", "x")] == pairs


def test_trial_rendering_finds_a_missing_name_whatever_the_variables(rendering: Rendering) -> None:
    persona = parse_persona(
        "p",
        {
            "name": "p",
            "system": "{{ who }} {{ nope }}",
            "variables": {"who": {"required": "true"}},
        },
    )
    resolved = ResolvedPersona(persona, {"chat": CHAT}, {"system": Place("p.yaml", 3)})
    (problem,) = rendering.renderer.find_problems(resolved)
    assert ("p.yaml", 3) == (problem.file, problem.line)
    assert "nope" in problem.text
