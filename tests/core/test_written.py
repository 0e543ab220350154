"""Each piece of a prompt leads back to the line that it was written on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rolebook.core.persona import ResolvedPersona
from rolebook.core.prompt import PromptRenderer, history_messages
from rolebook.core.sandbox import Sandbox
from rolebook.core.written import Written, find_written
from rolebook.library.file_library import FileLibrary

PERSONA = """\
name: Cook
system: |-
  You cook for {{ guest }}.

  {%- if is_vegan %}
  No meat, {{ guest }} would not like it.
  {%- endif %}
  {% for dish in ["soup", "bread"] %}
  Offer {{ dish|upper }}.
  {% endfor %}
  Good.
variables:
  guest: a friend
  is_vegan: {type: boolean, default: true}
examples:
  - {user: What is there?, assistant: Soup.}
  - user: |
      Anything else?

      Bread?
    assistant: >-
      Bread there is too, and it
      is fresh from this morning.
greeting: "Welcome, {{ guest }}!"
"""
TEMPLATE = """\
{% message "system" %}
{{ system }}
Answer
briefly.
{% endmessage %}
{% for example in examples %}
{% message "user" %}{{ example.user }}{% endmessage %}
{% message "assistant" %}{{ example.assistant }}{% endmessage %}
{% endfor %}
{% history %}
{% message "user" %}To {{ guest }}: {{ input }}{% endmessage %}
"""


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    sandbox = Sandbox()
    yield sandbox
    sandbox.close()


@pytest.fixture
def resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ResolvedPersona:
    monkeypatch.chdir(tmp_path)
    for folder, name, text in (
        ("personas", "cook.yaml", PERSONA),
        ("templates", "chat.jinja", TEMPLATE),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(text)
    return FileLibrary(tmp_path / "personas", tmp_path / "templates").get_persona("cook")


def test_every_piece_of_a_prompt_leads_to_its_line(
    resolved: ResolvedPersona, sandbox: Sandbox
) -> None:
    values = resolved.persona.parse_variables({})
    history = history_messages([("Before?", "Before.")])
    messages = PromptRenderer(sandbox).render(resolved, values, history, "Hungry").messages
    found = [
        (span.text.strip(), source and (Path(source.file).name, source.line))
        for message, sources in zip(messages, find_written(messages, resolved), strict=True)
        for span, source in zip(message.spans, sources, strict=True)
        if span.text.strip()
    ]
    persona, template = "cook.yaml", "chat.jinja"
    assert [
        ("You cook for", (persona, 3)),
        ("a friend", (persona, 3)),
        (".", (persona, 3)),
        ("No meat,", (persona, 6)),
        ("a friend", (persona, 6)),
        ("would not like it.", (persona, 6)),
        ("Offer", (persona, 9)),
        ("SOUP", (persona, 9)),
        (".", (persona, 9)),
        ("Offer", (persona, 9)),
        ("BREAD", (persona, 9)),
        (".", (persona, 9)),
        ("Good.", (persona, 11)),
        ("Answer\nbriefly.", (template, 3)),
        ("What is there?", (persona, 16)),
        ("Soup.", (persona, 16)),
        ("Anything else?\n\nBread?", (persona, 18)),
        ("Bread there is too, and it is fresh from this morning.", (persona, 22)),
        ("Welcome,", (persona, 24)),
        ("a friend", (persona, 24)),
        ("!", (persona, 24)),
        ("Before?", None),
        ("Before.", None),
        ("To", (template, 11)),
        ("a friend", (template, 11)),
        (":", (template, 11)),
        ("Hungry", None),
    ] == found


def test_lines_of_a_block_follow_each_other_in_the_file(
    resolved: ResolvedPersona, sandbox: Sandbox
) -> None:
    values = resolved.persona.parse_variables({})
    messages = PromptRenderer(sandbox).render(resolved, values, (), "Hungry").messages
    sources = find_written(messages, resolved)
    assert Written("personas/cook.yaml", 18, is_literal=True) == sources[3][0]
    folded = sources[4][0]
    assert folded is not None
    assert not folded.is_literal
