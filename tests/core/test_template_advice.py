"""What Jinja finds wrong is told in our words, at its place, with what to do."""

from __future__ import annotations

import pytest

from rolebook.core.errors import PromptError
from rolebook.core.persona import ResolvedPersona, parse_persona
from tests.core.conftest import CHAT, Rendering

#: A system text, and the line, column and a part of what is said about it.
MISTAKES = [
    ("one\n{% if x %}\n two\n", 2, 4, "'if' opens here and is never closed: write {% endif %}"),
    (
        "{% if x %}a{% endif %}\n{% if x %}\n{% for a in x %}b{% endfor %}\n",
        2,
        4,
        "'if' opens here",
    ),
    ("a\n{% endif %}", 2, 4, "'endif' closes nothing here"),
    ("{% for a in x %}\n{% if x %}\n{% endfor %}", 3, 4, "write {% endif %} before it"),
    ("{% else %}", 1, 4, "no 'if' is open"),
    ("{% foor a in x %}", 1, 4, "There is no tag 'foor'. Did you mean 'for'?"),
    ("{% switch x %}", 1, 4, "There is no tag 'switch'."),
    ("a\nb {{ subjct }}", 2, 6, "Did you mean 'subject'? If not, declare it under 'variables'."),
    ("{{ nope }}", 1, 4, "There is no 'nope' here: declare it under 'variables'"),
    ("{{ 名字 }}", 1, 4, "There is no '名字' here"),
    ("{{ persona.nam }}", 1, 12, "nothing that is called 'nam'"),
    ("{{ nope|tojson }}", 1, 4, "There is no 'nope' here: declare it under 'variables'"),
    ("{{ [subjct]|tojson }}", 1, 5, "Did you mean 'subject'?"),
    ("{{ cycler|tojson }}", 1, 1, "Object of type type is not JSON serializable"),
    ("{{ x | uper }}", 1, 8, "There is no filter 'uper'. Did you mean 'upper'?"),
    ("{{ x is definedd }}", 1, 9, "There is no test 'definedd'. Did you mean 'defined'?"),
    ("{{ x y }}", 1, 6, "'y' stands here where the tag should end"),
    ("{% if x = 1 %}{% endif %}", 1, 9, "write '=='"),
    ("{{ (x }}", 1, 7, "')' is missing here"),
    ("{{ }", 1, 4, "'}' is not expected here"),
    ("{{ x", 1, 1, "The template ends inside of a tag"),
    ("{{ “x” }}", 1, 4, "straight quotes"),
    ("{{ 'x }}", 1, 1, "The quote that opens in this tag is never closed"),
    ("{{ x + }}", 1, 1, "Something is missing in this tag"),
    ("a\n{# no end", 2, 1, "A comment, '{#', is never closed: write '#}'"),
    ("{% raw %} {{ x }}", 1, 1, "write {% endraw %}"),
    ("{{ ''.__class__ }}", 1, 7, "A template may not use '__class__'"),
    ("{{ " + "9" * 5000 + " }}", 1, 1, "too many digits"),
    ("{{ 1 // 0 }}", 1, 1, "The template fails: "),
]


@pytest.mark.parametrize(("system", "line", "column", "words"), MISTAKES)
def test_mistake_is_told_at_its_place_with_what_to_do(
    rendering: Rendering, system: str, line: int, column: int, words: str
) -> None:
    variables = {"x": "y", "subject": "z"}
    with pytest.raises(PromptError) as caught:
        rendering.prompt(persona={"name": "p", "system": system, "variables": variables})
    assert words in str(caught.value)
    assert ("system", line, column) == (caught.value.file, caught.value.line, caught.value.column)


def test_every_missing_name_is_found_at_once(rendering: Rendering) -> None:
    persona = parse_persona("p", {"name": "p", "system": "{{ nope }}\n{{ nada }}\n{{ nope }}"})
    problems = rendering.renderer.find_problems(ResolvedPersona(persona, {"chat": CHAT}))
    assert [(1, "There is no 'nope' here"), (2, "There is no 'nada' here")] == [
        (problem.line, problem.text.partition(":")[0]) for problem in problems
    ]
