"""`personas`, `models`, `render`, `check`, `schema`: what is there, on a pipe and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rolebook.core.persona import Persona
from tests.cli.conftest import Shell
from tests.conftest import ROOT
from tests.fake_upstream import FakeUpstream


def test_personas_are_listed_for_pipes_and_as_json(rehearsing: Shell) -> None:
    lines = rehearsing.run("personas").text.splitlines()
    assert ["friend", "plain", "teacher"] == [line.split("\t")[0] for line in lines]
    listed = rehearsing.run("personas", "--json").json
    assert ["知心朋友", "Plain assistant", "Teacher"] == [entry["name"] for entry in listed]
    assert "personas/teacher.yaml" == listed[2]["file"]


def test_broken_persona_is_listed_with_its_mistake(rehearsing: Shell) -> None:
    (rehearsing.folder / "personas" / "bad.yaml").write_text("name: Bad\n")
    finished = rehearsing.run("personas")
    assert 0 == finished.status
    assert "bad\t?" in finished.text
    assert "rolebook check" in finished.notices
    assert [1] == [
        len(e["problems"]) for e in rehearsing.run("personas", "--json").json if e["id"] == "bad"
    ]


def test_persona_is_shown_with_its_bases_merged_in(rehearsing: Shell) -> None:
    (rehearsing.folder / "personas" / "calm.yaml").write_text(
        "extends: teacher\nname: Calm teacher\nsampling: {temperature: 0}\n"
    )
    shown = rehearsing.run("personas", "show", "calm", "--json").json["persona"]
    assert "Calm teacher" == shown["name"]
    assert {"temperature": 0.0, "max_tokens": 600} == shown["sampling"]
    text = rehearsing.run("personas", "show", "calm").text
    (rehearsing.folder / "personas" / "copy.yaml").write_text(text)
    copied = rehearsing.run("personas", "show", "copy", "--json").json["persona"]
    assert shown == copied


def test_render_shows_what_would_be_sent_and_calls_nobody(
    shell: Shell, upstream: FakeUpstream
) -> None:
    rendered = shell.run("render", "teacher", 'a < b & "c"', "-s", "user=me", "--json").json
    assert ["dropped_turns", "messages", "parameters", "persona", "revision"] == sorted(rendered)
    assert {"role": "user", "content": 'a < b & "c"'} == rendered["messages"][-1]
    assert "system" == rendered["messages"][0]["role"]
    assert {"temperature": 0.7, "max_tokens": 600, "user": "me"} == rendered["parameters"]
    assert ("teacher", 0) == (rendered["persona"], rendered["dropped_turns"])
    assert [] == upstream.requests
    assert not (shell.folder / "data").exists()


def test_render_for_people_has_roles_and_text_on_standard_output(rehearsing: Shell) -> None:
    finished = rehearsing.run("render", "plain", "-", stdin=b"Hello\n")
    assert "── system ──\nAnswer briefly.\n\n── user ──\nHello\n" == finished.text
    assert "Messages: 2" in finished.notices


def test_render_names_the_model_that_will_answer(shell: Shell) -> None:
    assert ", model: ok." in shell.run("render", "plain", "Hi").notices
    planned = shell.run("compare", "plain", "--input", "Hi", "--plan", "--cell", "1-1-1")
    assert ", model: ok." in planned.notices


def test_render_reads_standard_input_only_when_asked(rehearsing: Shell) -> None:
    rendered = rehearsing.run("render", "plain", "--json", stdin=b"not this").json
    assert "" == rendered["messages"][-1]["content"]


def test_broken_template_is_named_with_its_line(rehearsing: Shell) -> None:
    template = rehearsing.folder / "templates" / "chat.jinja"
    template.write_text('{% message "system" %}\n{{ nobody }}\n{% endmessage %}')
    finished = rehearsing.run("render", "plain", "Hi")
    assert (2, b"") == (finished.status, finished.output)
    assert "chat.jinja:2" in finished.notices


def test_models_are_those_of_the_upstream(shell: Shell) -> None:
    listed = shell.run("models", "--json").json
    assert "gpt-4o-mini" in [model["id"] for model in listed]
    assert "gpt-4o-mini" in shell.run("models").text
    details = shell.run("models", "gpt-4o-mini", "--json").json
    assert "gpt-4o-mini" == details["id"] == details["details"]["id"]
    assert 1 == shell.run("models", "no-such-model").status


def test_server_that_lists_no_models_is_quoted(shell: Shell, upstream: FakeUpstream) -> None:
    upstream.path_rule("/v1/models", "status?code=400&message=No connected db.")
    finished = shell.run("models")
    assert 1 == finished.status
    assert "status 400. (No connected db.)" in finished.notices


def test_rehearsal_says_how_to_get_a_model(rehearsing: Shell) -> None:
    finished = rehearsing.run("models")
    assert "rehearsal" in finished.text
    assert "--find-local" in finished.notices


def test_check_reports_every_problem_as_a_line_and_fails_on_errors(rehearsing: Shell) -> None:
    assert 0 == rehearsing.run("check").status
    (rehearsing.folder / "personas" / "bad.yaml").write_text(
        "name: Bad\nsystem: Hi\nsampling:\n  temperature: warm\ncolour: red\n"
    )
    finished = rehearsing.run("check")
    assert 1 == finished.status
    first, second = finished.text.splitlines()
    assert first.startswith("personas/bad.yaml:4:16: ")
    assert second.startswith("personas/bad.yaml:5:1: warning: ")
    found = rehearsing.run("check", "--json").json
    assert [("error", 4), ("warning", 5)] == [(p["severity"], p["line"]) for p in found]


def test_warnings_alone_do_not_fail(rehearsing: Shell) -> None:
    (rehearsing.folder / "personas" / "odd.yaml").write_text(
        "name: Odd\nsystem: Hi\ncol\u202eour: red\n", "utf-8"
    )
    finished = rehearsing.run("check")
    assert (0, True) == (finished.status, "warning: 'col\\u202eour'" in finished.text)


def test_check_looks_only_at_the_files_given_wherever_they_are(
    rehearsing: Shell, tmp_path: Path
) -> None:
    (rehearsing.folder / "personas" / "bad.yaml").write_text("name: Bad\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine.yaml").write_text("name: Mine\nsystem: '{{ unknown }}'\n")
    (elsewhere / "mine.jinja").write_text('{% message "nobody" %}{% endmessage %}')
    assert 0 == rehearsing.run("check", "personas/teacher.yaml").status
    assert 0 == rehearsing.run("check", "templates/chat.jinja").status
    persona = rehearsing.run("check", str(elsewhere / "mine.yaml"))
    assert (1, True) == (persona.status, "elsewhere/mine.yaml:2" in persona.text)
    template = rehearsing.run("check", str(elsewhere / "mine.jinja"))
    assert (1, True) == (template.status, "mine.jinja:1" in template.text)


def test_check_annotates_for_github(rehearsing: Shell) -> None:
    (rehearsing.folder / "personas" / "bad.yaml").write_text(
        "name: Bad\nsystem: Hi\nendpoint: 50%,chat\ncolour: red\n"
    )
    finished = rehearsing.run("check", "--format", "github")
    assert 1 == finished.status
    error, warning = finished.text.splitlines()
    title = "title=rolebook check"
    assert error.startswith(f"::error file=personas/bad.yaml,line=3,col=11,{title}::endpoint must")
    assert "got '50%25,chat'." in error
    assert warning.startswith(f"::warning file=personas/bad.yaml,line=4,col=1,{title}::'colour' is")


def test_check_of_several_files_tells_of_each(rehearsing: Shell) -> None:
    for name in ("one", "two"):
        (rehearsing.folder / "personas" / f"{name}.yaml").write_text("name: Bad\n")
    finished = rehearsing.run("check", "personas/one.yaml", "personas/two.yaml")
    assert ["personas/one.yaml:1:1", "personas/two.yaml:1:1"] == [
        line.rpartition(": ")[0] for line in finished.text.splitlines()
    ]
    assert (1, True) == (finished.status, "Files checked: 2, errors: 2" in finished.notices)


def test_json_is_a_format_too(rehearsing: Shell) -> None:
    (rehearsing.folder / "personas" / "bad.yaml").write_text("name: Bad\n")
    asked = [rehearsing.run("check", *how).json for how in (("--json",), ("--format", "json"))]
    assert asked[0] == asked[1] != []


def test_schema_is_the_one_in_the_documentation(rehearsing: Shell) -> None:
    written = json.loads((ROOT / "docs" / "persona.schema.json").read_text("utf-8"))
    schema = rehearsing.run("schema").json
    assert written == schema
    fields = {name for name in Persona.model_fields if name != "id"}
    assert fields == set(schema["properties"])
    assert all(
        schema["properties"][name].get("description") or name in _REFERRING for name in fields
    )


_REFERRING = {"sampling", "context"}


@pytest.mark.parametrize("name", ["sampling", "context"])
def test_schema_refers_to_parts_that_it_has(rehearsing: Shell, name: str) -> None:
    schema = rehearsing.run("schema").json
    part = schema["properties"][name]["$ref"].rpartition("/")[2]
    assert schema["$defs"][part]["properties"]
