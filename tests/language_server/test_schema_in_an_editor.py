"""The schema in the real yaml-language-server: what an editor completes, explains and marks.

`make language-server` installs it beside this file, and `make test` does so first. It needs npm, which Rolebook does
not: where there is none, or where it reaches no registry, these tests say so and do not run; on a build server, where
`CI` is set, it is a failure if npm is there and the language server is not.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.conftest import ROOT
from tests.language_server.client import PROGRAM, LanguageServer

LINE = "# yaml-language-server: $schema=../docs/persona.schema.json\n"
GOOD = LINE + "name: X\nsystem: y\n"
ERROR = 1


@pytest.fixture(scope="module")
def editor() -> Iterator[LanguageServer]:
    if shutil.which("npm") is None:
        pytest.skip("npm is not here, and so no yaml-language-server: it needs Node.")
    if not PROGRAM.exists():
        is_expected = bool(os.environ.get("CI"))
        (pytest.fail if is_expected else pytest.skip)(
            "The yaml-language-server is not installed: `make language-server` fetches it."
        )
    with LanguageServer(ROOT / "personas") as server:
        yield server


@pytest.mark.parametrize(
    ("text", "line", "column", "expected"),
    [
        ("", 1, 0, {"name": "What people call it.", "system": "The system prompt, a Jinja text"}),
        ("name: X\nsampling:\n  \n", 3, 2, {"temperature": "How freely", "seed": "same answer"}),
        ("name: X\nendpoint: \n", 2, 10, {"completions": "For base models", "chat": "messages"}),
        ("variables:\n  a:\n    type: \n", 3, 10, {"choice": "under 'choices'", "date": "2026"}),
        ("variables:\n  a:\n    \n", 3, 4, {"choices": "`choice`", "required": "cannot start"}),
        ("examples:\n  - \n", 2, 4, {"user": "What the person says.", "assistant": "answers"}),
        ("checks:\n  - \n", 2, 4, {"max_words": "greatest", "judged by a model": "in words"}),
        ("checks:\n  - language: \n", 2, 14, {"zh": "", "en": ""}),
        ("context:\n  \n", 2, 2, {"turns": "earlier turns", "tokens": "tokens"}),
    ],
)
def test_keys_and_values_are_completed_with_what_they_mean(
    editor: LanguageServer, text: str, line: int, column: int, expected: dict[str, str]
) -> None:
    name = f"complete-{line}-{column}-{len(text)}.yaml"
    editor.open(name, LINE + text)
    found = editor.complete(name, line, column)
    assert set(expected) <= set(found)
    assert {} == {
        label: found[label].get("documentation")
        for label, part in expected.items()
        if part not in str(found[label].get("documentation", ""))
    }


def test_new_file_is_completed_to_a_whole_persona(editor: LanguageServer) -> None:
    editor.open("new.yaml", LINE)
    text = editor.complete("new.yaml", 1, 0)["persona"]["insertText"]
    assert text.startswith("name: ${1:Name}\ndescription: ")
    assert "\nsystem: " in text


def test_key_is_put_in_without_an_empty_value(editor: LanguageServer) -> None:
    editor.open("key.yaml", LINE)
    found = editor.complete("key.yaml", 1, 0)
    assert "description: " == found["description"]["insertText"]
    assert [] == [label for label, item in found.items() if "null" in item["insertText"]]


def test_key_is_explained(editor: LanguageServer) -> None:
    editor.open("hover.yaml", GOOD + "sampling:\n  temperature: 1\n")
    assert "How freely it chooses its words" in editor.hover("hover.yaml", 4, 4)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("sampling:\n  temperature: warm\n", 4, 'Expected "number"'),
        ("sampling:\n  top_p: 3\n", 4, "above the maximum of 1"),
        ("endpoint: chats\n", 3, 'Valid values: "chat", "completions"'),
        ("variables: {a: {type: int}}\n", 3, '"integer"'),
        ("temprature: 1\n", 3, "temprature is not allowed"),
        ("examples:\n  - user: a\n", 4, 'Missing property "assistant"'),
        ("tags: {a: b}\n", 3, "Incorrect type"),
        ("context: 12\n", 3, "Incorrect type"),
        ("name: Again\n", 3, "unique"),
    ],
)
def test_mistakes_are_marked_on_their_line(
    editor: LanguageServer, text: str, line: int, words: str
) -> None:
    found = editor.open(f"wrong-{abs(hash(text))}.yaml", GOOD + text)
    assert {ERROR} == {problem["severity"] for problem in found}
    assert (line, True) in {
        (problem["range"]["start"]["line"], words in problem["message"]) for problem in found
    }


def test_missing_key_is_told(editor: LanguageServer) -> None:
    assert any(
        "system" in found["message"] for found in editor.open("less.yaml", LINE + "name: X\n")
    )


@pytest.mark.parametrize(
    "text",
    [
        "tags: one\nstarters: [1.10, no]\nlanguage: no\n",
        "variables: {a: text, n: 3, b: true, c: {type: choice, choices: [1, 2], default: 1}}\n",
        "sampling: {temperature: 0, stop: END, logprobs: true, logit_bias: {'50256': -100}}\n",
        "request: {user: me, response_format: {type: json_object}}\nx: {anything: [1, {a: b}]}\n",
        "checks: [{max_words: 3}, {is_json: {type: object}}, {not_contains: [a, b]}]\n",
    ],
)
def test_what_rolebook_reads_is_not_marked(editor: LanguageServer, text: str) -> None:
    assert [] == editor.open(f"right-{abs(hash(text))}.yaml", GOOD + text)


def test_shipped_personas_name_the_schema_and_have_no_mistake(editor: LanguageServer) -> None:
    texts = {path.name: path.read_text("utf-8") for path in (ROOT / "personas").glob("*.yaml")}
    assert {} == {name: text[:60] for name, text in texts.items() if not text.startswith(LINE)}
    assert {} == {name: found for name, text in texts.items() if (found := editor.open(name, text))}
