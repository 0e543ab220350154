"""What a prompt template makes of one input serves for the next one, where nothing depends on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from rolebook.core.errors import PromptLimitError
from rolebook.core.message import MAX_OUTPUT
from rolebook.core.persona import ResolvedPersona, parse_persona
from rolebook.core.sandbox import Sandbox
from tests.core.conftest import CHAT, Rendering, spans

SAY = '{% message "user" %}{{ input }}{% endmessage %}'


class Counting(Sandbox):
    """A sandbox that counts what it is asked for."""

    asked = 0

    def ask(self, request: Mapping[str, Any], supply: Callable[[str], Any]) -> dict[str, Any]:
        self.asked += 1
        return super().ask(request, supply)


@pytest.fixture(scope="module")
def workers() -> Iterator[Counting]:
    sandbox = Counting(workers=1, deadline_s=20)
    yield sandbox
    sandbox.close()


@pytest.fixture
def sandbox(workers: Counting) -> Counting:
    workers.asked = 0
    return workers


@pytest.fixture
def counted(sandbox: Counting) -> Rendering:
    return Rendering(sandbox)


TEACHER = {
    "name": "Teacher",
    "system": "You teach {{ subject }}{% if level == 'expert' %} to experts{% endif %}.",
    "greeting": "Shall we, {{ subject }}?",
    "variables": {"subject": "logic", "level": {"type": "choice", "choices": ["new", "expert"]}},
    "examples": [{"user": "What is it?", "assistant": "You tell me."}],
}


def test_next_input_takes_the_place_of_the_last_one(
    counted: Rendering, sandbox: Counting, rendering: Rendering
) -> None:
    history = [("a", "b")]
    for input_text in ("one", "", "{{ 7*7 }} \ud800\n\0", "four"):
        prompt = counted.prompt(CHAT, persona=TEACHER, input_text=input_text, history=history)
        rendering.renderer._outlines.clear()
        anew = rendering.prompt(CHAT, persona=TEACHER, input_text=input_text, history=history)
        assert anew == prompt
        assert [spans(message) for message in anew.messages] == [
            spans(message) for message in prompt.messages
        ]
        history.append((input_text, "c"))

    assert sandbox.asked == 1


def test_other_variables_and_other_texts_are_rendered(
    counted: Rendering, sandbox: Counting
) -> None:
    def system(persona: Mapping[str, Any], **values: str) -> str:
        return counted.pairs(CHAT, persona=persona, values=values)[0][1]

    for _ in range(2):
        assert system(TEACHER) == "You teach logic."
        assert system(TEACHER, level="expert") == "You teach logic to experts."
        assert system(TEACHER, subject="love") == "You teach love."
        assert system({**TEACHER, "system": "Teach!"}) == "Teach!"

    assert sandbox.asked == 4


LOOKING = {
    "condition": (
        '{% message "user" %}{% if input == "a" %}A{% endif %}{{ input }}{% endmessage %}',
        "Aa",
        "b",
    ),
    "filter": ('{% message "user" %}{{ input | upper }}{% endmessage %}', "A", "B"),
    "other message": (
        SAY + '{% if input == "a" %}{% message "user" %}!{% endmessage %}{% endif %}',
        "a!",
        "b",
    ),
    "set": ('{% set said = input %}{% message "user" %}{{ said }}{% endmessage %}', "a", "b"),
    "block": (
        '{% set said %}{{ input }}{% endset %}{% message "user" %}{{ said | upper }}{% endmessage %}',
        "A",
        "B",
    ),
    "filtered block": (
        '{% message "user" %}{% filter upper %}{{ input }}{% endfilter %}{% endmessage %}',
        "A",
        "B",
    ),
    "macro": (
        '{% macro m(input) %}{% message "user" %}{{ input }}{% endmessage %}{% endmacro %}{{ m(input ~ "!") }}',
        "a!",
        "b!",
    ),
    "with": (
        '{% with said = input %}{% message "user" %}{{ said }}{% endmessage %}{% endwith %}',
        "a",
        "b",
    ),
    "loop": (
        '{% message "user" %}{% for c in input %}{{ c }}.{% endfor %}{% endmessage %}',
        "a.",
        "b.",
    ),
    "include": ("{% include 'other' %}", "Aa", "b"),
    "import": ("{% import 'other' as other with context %}", "Aa", "b"),
    "base": ("{% extends 'other' %}", "Aa", "b"),
}


@pytest.mark.parametrize(("template", "first", "second"), LOOKING.values(), ids=LOOKING)
def test_template_that_does_more_than_print_the_input_is_rendered_for_each(
    counted: Rendering, sandbox: Counting, template: str, first: str, second: str
) -> None:
    other = {"other": LOOKING["condition"][0]}

    def said(input_text: str) -> str:
        pairs = counted.pairs(template, input_text=input_text, more=other)
        return "".join(content for _, content in pairs)

    assert (first, second, first) == (said("a"), said("b"), said("a"))
    assert sandbox.asked == 3


def test_text_with_the_input_in_it_is_rendered_for_each(counted: Rendering) -> None:
    persona = {"name": "p", "system": "Answer {{ input }}{% if input == 'a' %}!{% endif %}"}

    assert counted.pairs(persona=persona, input_text="a")[0][1] == "Answer a!"
    assert counted.pairs(persona=persona, input_text="b")[0][1] == "Answer b"


def test_history_that_is_looked_at_is_rendered_each_time(counted: Rendering) -> None:
    template = '{% message "system" %}{{ history | length }}{% endmessage %}' + SAY

    assert counted.pairs(template, history=[("a", "b")])[0][1] == "2"
    assert counted.pairs(template, history=[("a", "b"), ("c", "d")])[0][1] == "4"


@pytest.mark.parametrize(
    ("looked_at", "first", "later"),
    [
        ("{{ 'first' if history == [] else 'later' }}", "first", "later"),
        ("{{ history is sequence }}", "True", "True"),
        ("{{ (history + [1]) | length }}", "1", "3"),
        ("{{ ([1] + history) | length }}", "1", "3"),
    ],
)
def test_history_is_what_it_is_however_it_is_looked_at(
    counted: Rendering, looked_at: str, first: str, later: str
) -> None:
    template = '{% message "system" %}' + looked_at + "{% endmessage %}" + SAY

    said = [counted.pairs(template, history=history)[0][1] for history in ([], [("a", "b")])]
    assert said == [first, later]


def test_chance_is_left_to_each_render(counted: Rendering, sandbox: Counting) -> None:
    template = '{% message "system" %}{{ [1, 2] | random }}{% endmessage %}' + SAY
    for _ in range(3):
        assert counted.pairs(template)[0][1] in {"1", "2"}

    assert sandbox.asked == 3


def test_chance_by_another_name_is_left_to_each_render(
    counted: Rendering, sandbox: Counting
) -> None:
    drawn = "{{ [[1, 2]] | map('ran' ~ 'dom') | first }}"
    for _ in range(3):
        counted.pairs('{% message "system" %}' + drawn + "{% endmessage %}" + SAY)

    assert sandbox.asked == 3


def test_values_that_are_equal_but_print_otherwise_are_rendered(counted: Rendering) -> None:
    persona = {"name": "p", "system": "{{ n }}", "variables": {"n": {"type": "number"}}}

    said = [counted.pairs(persona=persona, values={"n": n})[0][1] for n in (0.0, -0.0)]
    assert said == ["0", "-0"]


def test_personas_of_the_same_content_are_each_called_by_their_own_id(counted: Rendering) -> None:
    def said(persona_id: str) -> str:
        data = {"name": "p", "template": "chat", "system": "I am {{ persona.id }}."}
        resolved = ResolvedPersona(parse_persona(persona_id, data), {"chat": CHAT})
        return counted.renderer.render(resolved, {}, (), "x").messages[0].content

    assert [said("ida"), said("idb")] == ["I am ida.", "I am idb."]


def test_input_that_is_too_long_is_refused_as_ever(counted: Rendering) -> None:
    assert counted.pairs(SAY + SAY) == [("user", "x"), ("user", "x")]

    with pytest.raises(PromptLimitError, match="more than 4,000,000 characters"):
        counted.pairs(SAY + SAY, input_text="x" * (MAX_OUTPUT // 2 + 1))


def test_outlines_do_not_gather_without_end(counted: Rendering) -> None:
    for number in range(300):
        counted.pairs(SAY, persona={"name": f"p{number}", "system": "s"})

    assert len(counted.renderer._outlines) == 256
