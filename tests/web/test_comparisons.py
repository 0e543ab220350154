"""Planning a comparison by its form, beginning it, and the list of comparisons, without any script."""

from __future__ import annotations

import io
import json
import re
import sqlite3
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from rolebook.core.chat import PreparedTurn
from rolebook.core.comparison import Ballot, CellKey, Comparison, ComparisonInput
from rolebook.core.comparison_spec import parse_spec
from rolebook.core.preference import Outcome
from rolebook.core.session import new_id
from rolebook.library.comparison_file import parse_comparison
from rolebook.web.plan_form import moment
from rolebook.wiring import Rolebook
from tests.cli.conftest import Shell
from tests.conftest import MakeRolebook
from tests.fake_upstream import FakeUpstream

ADDRESS = "/comparisons/new?variant=teacher&variant=plain&input=Why+is+the+sky+blue%3F"


class Form(HTMLParser):
    """The form of a plan as a browser without script has it: its fields, what is wrong, where the focus goes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self.invalid: list[str] = []
        self.focus = ""
        self._select = self._textarea = ""
        self._is_inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self._is_inside = self._is_inside or (tag == "form" and given.get("id") == "plan")
        if not self._is_inside:
            return
        name = given.get("name", "")
        if "autofocus" in given:
            self.focus = given["id"]
        if "aria-invalid" in given:
            self.invalid.append(name)
        match tag:
            case "select":
                self._select = name
            case "option" if "selected" in given or self._select not in self.fields:
                self.fields[self._select] = given["value"]
            case "textarea":
                self._textarea = name
                self.fields[name] = ""
            case "input" if given.get("type") != "file":
                self._note_input(name, given)

    def _note_input(self, name: str, given: Mapping[str, str]) -> None:
        if given.get("type") not in {"checkbox", "radio"} or "checked" in given:
            self.fields[name] = given.get("value", "")

    def handle_data(self, data: str) -> None:
        if self._textarea:
            self.fields[self._textarea] += data.removeprefix("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._is_inside = False
        if tag == "select":
            self._select = ""
        if tag == "textarea":
            self._textarea = ""


def text_of(html: str) -> str:
    """The words of a page."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def consequence(page: str) -> str:
    """The words of its right-hand side."""
    return text_of(page[page.index('id="consequence"') :])


def opened(client: FlaskClient, address: str = ADDRESS) -> dict[str, str]:
    """The fields of a plan as it opens."""
    response = client.get(address)
    assert response.status_code == 200
    return Form(response.text).fields


def press(client: FlaskClient, fields: Mapping[str, Any], action: str, **more: Any) -> Form:
    """The form after one of its buttons."""
    response = client.post(
        "/comparisons/new",
        data={**fields, "do": action, **more},
        content_type="multipart/form-data",
    )
    assert response.status_code == 200, response.text
    return Form(response.text)


def start(client: FlaskClient, fields: Mapping[str, str]) -> str:
    """Begin a comparison; its id."""
    response = client.post("/comparisons", data=fields)
    assert response.status_code == 303, Form(response.text).invalid
    found = re.fullmatch("/comparisons/([0-9a-z]{18})", response.location)
    assert found
    return found[1]


def finished(rolebook: Rolebook, comparison_id: str) -> Any:
    """The comparison, once its run has ended."""
    run = rolebook.compare.run_of(comparison_id)
    assert run
    assert run.wait(10)
    return rolebook.comparisons.get_comparison(comparison_id)


def talk(client: FlaskClient, *inputs: str, **fields: str) -> str:
    """A session in which these things were said; its id."""
    begun = client.post("/sessions", data={"persona": "teacher", "input": inputs[0], **fields})
    session_id = begun.location.rpartition("/")[2]
    for text in inputs[1:]:
        client.post(f"/sessions/{session_id}/turns", data={"input": text})
    return str(session_id)


def reword(rolebook: Rolebook) -> None:
    """Somebody edits the teacher."""
    path = rolebook.library.personas_dir / "teacher.yaml"
    path.write_text(path.read_text("utf-8").replace("patient", "strict"), "utf-8")


def test_an_address_opens_a_plan_with_its_cost_and_messages(client: FlaskClient) -> None:
    page = client.get(ADDRESS).text
    fields = Form(page).fields
    assert [fields[f"variant-{i}-persona"] for i in range(2)] == ["teacher", "plain"]
    assert fields["lines"] == "Why is the sky blue?"
    said = consequence(page)
    assert "answers 2 calls 2" in said
    assert "price not known" in said
    assert "You are a patient teacher of mathematics for a beginner ." in said
    assert "temperature 0.7 –" in said


def test_a_plan_begins_and_leads_to_its_comparison(client: FlaskClient, rolebook: Rolebook) -> None:
    fields = {
        **opened(client),
        "question": "Who?",
        "repeats": "2",
        "lines": "One\nIs \\nu \\neq 0?\n\n",
    }
    comparison = finished(rolebook, start(client, fields))
    assert comparison.question == "Who?"
    assert [entry.turns for entry in comparison.inputs] == [("One",), ("Is \\nu \\neq 0?",)]
    assert [variant.persona_id for variant in comparison.variants] == ["teacher", "plain"]
    assert rolebook.comparisons.tally(comparison).complete == 8


def test_a_form_that_is_sent_twice_begins_one_comparison(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    fields = opened(client)
    with ThreadPoolExecutor(3) as pool:
        begun = set(pool.map(lambda _: start(client.application.test_client(), fields), range(3)))
    (comparison_id,) = begun
    finished(rolebook, comparison_id)
    assert [comparison_id] == [s.comparison.id for s in rolebook.comparisons.list_comparisons()[0]]
    assert 2 == len(upstream.requests)
    assert comparison_id == start(client, fields)
    assert 2 == len(upstream.requests)


def test_what_was_changed_on_the_same_page_or_opened_anew_is_another_comparison(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    fields = opened(client)
    others = [{**fields, "repeats": "2"}, opened(client), {**fields, "begun": "nonsense"}]
    begun = {start(client, each) for each in (fields, *others)}
    assert 4 == len(begun)
    for comparison_id in begun:
        finished(rolebook, comparison_id)


def test_a_form_that_is_sent_again_after_a_role_was_changed_is_another_comparison(
    client: FlaskClient, rolebook: Rolebook, library_dir: Path
) -> None:
    fields = opened(client)
    first = start(client, fields)
    (library_dir / "personas" / "plain.yaml").write_text("name: Plain\nsystem: Anew.\n", "utf-8")
    second = start(client, fields)
    assert first != second
    for comparison_id in (first, second):
        finished(rolebook, comparison_id)


def test_a_text_of_several_lines_goes_along_whole(client: FlaskClient, rolebook: Rolebook) -> None:
    fields = opened(client, "/comparisons/new?variant=plain&input=One&input=On+two%0Alines")
    comparison = finished(rolebook, start(client, fields))
    assert [entry.text for entry in comparison.inputs] == ["One", "On two\nlines"]


def test_nothing_is_sent_before_it_begins(client: FlaskClient, upstream: FakeUpstream) -> None:
    fields = opened(client)
    client.post("/comparisons/preview", json=fields)
    press(client, fields, "add-variant")
    assert upstream.requests == []


def test_variants_are_added_copied_moved_and_removed(client: FlaskClient) -> None:
    fields = {**opened(client), "variant-1-name": "Terse", "variant-1-s-temperature": "0"}
    copied = press(client, fields, "copy-variant 1")
    assert copied.fields["variant-2-persona"] == "plain"
    assert copied.fields["variant-2-s-temperature"] == "0"
    assert copied.fields["variant-2-name"] == ""
    assert copied.focus == "variant-2-persona"
    raised = press(client, copied.fields, "raise-variant 1")
    assert raised.fields["variant-0-name"] == "Terse"
    assert raised.fields["variant-1-persona"] == "teacher"
    removed = press(client, raised.fields, "remove-variant 1")
    assert removed.fields["variant-1-s-temperature"] == "0"
    assert "variant-2-persona" not in removed.fields
    added = press(client, removed.fields, "add-variant")
    assert added.fields["variant-2-persona"] == ""
    assert added.focus == "variant-2-persona"
    assert added.fields["lines"] == "Why is the sky blue?"


def test_another_wording_is_a_change_and_its_own_text_is_none(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    fields = opened(client, "/comparisons/new?variant=plain&variant=plain&input=Hi")
    assert fields["variant-1-system"] == "Answer briefly."
    fields["variant-1-system"] = "Answer at length."
    page = client.post("/comparisons/preview", data=fields).text
    assert "<del>briefly</del><ins>at length</ins>" in page
    comparison = finished(rolebook, start(client, fields))
    first, second = comparison.variants
    assert first.revision == rolebook.library.get_persona("plain").revision.id
    assert rolebook.log.get_revision(second.revision).resolved["system"] == "Answer at length."


def test_another_persona_brings_its_own_fields_and_keeps_what_was_typed(
    client: FlaskClient,
) -> None:
    fields = {**opened(client), "variant-0-persona": "plain", "variant-1-persona": "teacher"}
    changed = press(client, {**fields, "variant-0-name": "Kept"}, "").fields
    assert changed["variant-0-system"] == "Answer briefly."
    assert changed["variant-0-name"] == "Kept"
    assert "variant-0-v-subject" not in changed
    assert "variant-1-v-subject" in changed
    typed = press(client, {**fields, "variant-0-system": "Mine."}, "").fields
    assert typed["variant-0-system"] == "Mine."


def test_a_role_described_in_the_form_takes_part(client: FlaskClient, rolebook: Rolebook) -> None:
    fields = {**opened(client), "variant-1-persona": "-", "variant-1-system": "Say {{ nothing }}."}
    comparison = finished(rolebook, start(client, fields))
    assert comparison.variants[1].persona_id == ""
    (cell,) = [c for c in rolebook.comparisons.cells(comparison) if c.key.variant == 1]
    messages = rolebook.log.get_turn(cell.turns[0].id).messages
    assert messages[0].content == "Say {{ nothing }}."


def test_everything_that_can_be_different_reaches_the_plan(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    upstream.model_rule("other", "ok")
    different = {
        "variant-0-name": "Expert",
        "variant-0-model": "other",
        "variant-0-v-level": "expert",
        "variant-0-s-temperature": "0.1",
        "variant-0-more": "user=anna",
        "variant-0-changes": "examples: []\ncontext: {turns: 4}",
        "concurrency": "2",
    }
    comparison = finished(rolebook, start(client, {**opened(client), **different}))
    variant = comparison.variants[0]
    assert (variant.name, variant.model) == ("Expert", "other")
    assert variant.variables == {"level": "expert"}
    assert variant.parameters == {"temperature": 0.1, "user": "anna"}
    resolved = rolebook.log.get_revision(variant.revision).resolved
    assert "examples" not in resolved
    assert resolved["context"] == {"turns": 4}
    assert comparison.concurrency == 2


@pytest.mark.parametrize(
    ("given", "field", "words"),
    [
        ({"variant-0-s-temperature": "9"}, "variant-0-s-temperature", "from 0 to 2"),
        ({"variant-0-v-level": "guru"}, "variant-0-v-level", "must be one of beginner, expert"),
        ({"variant-1-system": "{{ oops"}, "variant-1-system", "ends inside of a tag"),
        ({"variant-1-system": "{{ nobody }}"}, "variant-1-system", "nobody"),
        ({"variant-1-persona": "-"}, "variant-1-system", "what the role should be"),
        ({"variant-1-persona": "gone"}, "variant-1-persona", "no persona 'gone'"),
        ({"variant-1-upstream": "gone"}, "variant-1-upstream", "no upstream 'gone'"),
        ({"variant-1-revision": "abc"}, "variant-1-revision", "no label or revision 'abc'"),
        ({"variant-1-changes": "a: [b"}, "variant-1-changes", ""),
        ({"variant-1-changes": "sytem: Be kind."}, "variant-1-changes", "mean 'system'?"),
        ({"variant-1-more": "nonsense"}, "variant-1-more", "name=value"),
        ({"lines": " \n"}, "lines", "Write what is said"),
        ({"repeats": "x"}, "repeats", "repeats must be a whole number from 1 to 100"),
        ({"concurrency": "0"}, "concurrency", "from 1 to 64"),
        ({"context-tokens": "few"}, "context-tokens", "whole number"),
        ({"check-0-kind": "max_words", "check-0-value": "few"}, "check-0-value", "max_words"),
        ({"check-0-kind": "contains", "check-0-value": " "}, "check-0-value", "Fill in"),
        ({"check-0-kind": "is_json", "check-0-value": "["}, "check-0-value", "JSON Schema"),
        (
            {"check-0-kind": "rubric", "check-0-value": "x", "judge-persona": "gone"},
            "judge-persona",
            "gone",
        ),
        (
            {"check-0-kind": "rubric", "check-0-value": "x", "judge-persona": "teacher"},
            "judge-persona",
            "The persona 'teacher' cannot judge",
        ),
    ],
)
def test_what_is_wrong_is_told_at_its_field_and_nothing_is_lost(
    client: FlaskClient, rolebook: Rolebook, given: dict[str, str], field: str, words: str
) -> None:
    fields = {**opened(client), "variant-0-name": "Kept", **given}
    response = client.post("/comparisons", data=fields)
    assert 400 <= response.status_code < 500
    form = Form(response.text)
    assert form.invalid == [field]
    error = re.search(rf'id="{field}-error">([^<]+)<', response.text)
    assert error
    assert words in unescape(error[1])
    kept = {name: value for name, value in form.fields.items() if name in fields}
    assert kept["variant-0-name"] == "Kept"
    for name, value in given.items():
        assert kept[name].strip() == value.strip()
    assert rolebook.comparisons.list_comparisons()[0] == []


def test_a_plan_without_anybody_says_so(client: FlaskClient) -> None:
    fields = {**opened(client, "/comparisons/new"), "lines": "Hello"}
    response = client.post("/comparisons", data=fields)
    assert response.status_code == 400
    assert Form(response.text).invalid == ["variant-0-persona"]


def test_cards_that_were_left_blank_do_not_matter(client: FlaskClient, rolebook: Rolebook) -> None:
    fields = press(client, opened(client), "add-variant").fields
    assert len(finished(rolebook, start(client, fields)).variants) == 2


def test_more_than_eight_are_refused(client: FlaskClient) -> None:
    address = "/comparisons/new?input=x&" + "&".join(["variant=plain"] * 9)
    response = client.post("/comparisons", data=opened(client, address))
    assert Form(response.text).invalid == ["variant-8-persona"]
    assert "Add another" in response.text


def test_scripts_of_several_turns(client: FlaskClient, rolebook: Rolebook) -> None:
    script = "First\n---\nSecond\nwith two lines\n=====\nAlone\n---\n\n"
    comparison = finished(
        rolebook, start(client, {**opened(client), "lines": "", "scripts": script})
    )
    assert [entry.turns for entry in comparison.inputs] == [
        ("First", "Second\nwith two lines"),
        ("Alone",),
    ]


def test_inputs_come_from_a_file_and_its_columns_fill_variables(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    content = b"input,subject\nWhat is light?,physics\nWhat is air?,chemistry\n"
    fields = {**opened(client), "lines": ""}
    read = press(client, fields, "read-inputs", **{"inputs-file": (io.BytesIO(content), "a.csv")})
    assert [row["variables"] for row in json.loads(read.fields["rows"])] == [
        {"subject": "physics"},
        {"subject": "chemistry"},
    ]
    assert read.focus == "rows-read"
    said = consequence(client.post("/comparisons/preview", data=read.fields).text)
    assert "teacher of physics for a" in said
    comparison = finished(rolebook, start(client, read.fields))
    assert [entry.text for entry in comparison.inputs] == ["What is light?", "What is air?"]
    assert "rows" not in press(client, read.fields, "remove-rows").fields


def test_an_input_from_a_file_that_does_not_fit_is_told_by_its_line(client: FlaskClient) -> None:
    content = b'input,level\n"What\nis it?",expert\nWhy?,master\n'
    fields = {**opened(client), "variant-1-persona": "teacher", "lines": "One\nTwo"}
    read = press(client, fields, "read-inputs", **{"inputs-file": (io.BytesIO(content), "a.csv")})
    text = client.post("/comparisons", data=read.fields).text
    error = re.search(r'id="rows-error">([^<]+)<', text)
    assert error
    assert "a.csv:4: Input 4 with 'Teacher" in unescape(error[1])


@pytest.mark.parametrize(
    ("button", "field", "content", "name", "words"),
    [
        ("read-inputs", "inputs-file", b'{"input": 1}\n', "a.jsonl", "a.jsonl:1"),
        ("read-inputs", "inputs-file", b"", "", "Choose a file first."),
        ("read-plan", "plan-file", b"variants: [teacher]\n", "a.yaml", "'inputs' is missing"),
    ],
)
def test_a_file_that_cannot_be_read_says_why_and_changes_nothing(
    client: FlaskClient, button: str, field: str, content: bytes, name: str, words: str
) -> None:
    fields = {**opened(client), "question": "Kept"}
    response = client.post(
        "/comparisons/new",
        data={**fields, "do": button, field: (io.BytesIO(content), name)},
        content_type="multipart/form-data",
    )
    assert response.status_code in {400, 422}
    form = Form(response.text)
    assert form.invalid == [field]
    assert words in unescape(response.text)
    assert form.fields["question"] == "Kept"


def test_more_inputs_than_a_page_can_carry_are_refused(client: FlaskClient) -> None:
    columns = ",".join(letter * 60 for letter in "abcd")
    lines = f"input,{columns}\n".encode() + b"x,1,2,3,4\n" * 3000
    response = client.post(
        "/comparisons/new",
        data={**opened(client), "do": "read-inputs", "inputs-file": (io.BytesIO(lines), "a.csv")},
        content_type="multipart/form-data",
    )
    assert "rolebook compare --inputs FILE" in response.text


def test_checks_are_added_and_removed_and_hold(client: FlaskClient, rolebook: Rolebook) -> None:
    form = press(client, opened(client), "add-check", **{"new-check": "max_words"})
    assert form.focus == "check-0-value"
    fields = {**form.fields, "check-0-value": "80"}
    form = press(client, fields, "add-check", **{"new-check": "contains_any"})
    fields = {**form.fields, "check-1-value": "yes\nno"}
    comparison = finished(rolebook, start(client, fields))
    assert [check.as_data() for check in comparison.checks] == [
        {"max_words": 80},
        {"contains_any": ["yes", "no"]},
    ]
    assert press(client, fields, "remove-check 0").fields["check-0-value"] == "yes\nno"


def test_a_plan_is_a_file_and_a_file_is_a_plan(client: FlaskClient, rolebook: Rolebook) -> None:
    session_id = talk(client, "Why?")
    text = f"""\
question: Which?
variants:
- persona: teacher
  name: Strict
  model: ok
  variables: {{level: expert}}
  sampling: {{temperature: 0.1, stop: [END]}}
  request:
    {{user: "123", note: "one\\ntwo", words: " x", none: null, number: 5, nothing: "", other: {{a: "1"}}}}
  changes: {{system: Be strict., context: {{turns: 3}}}}
- system: You are a parrot.
- plain
inputs:
- Hello
- {{turns: [One, Two], tags: [talk]}}
- {{input: What?, reference: That., variables: {{subject: physics}}}}
- session: {session_id}
  history: free
- {{session: {session_id}, tags: [again]}}
- {{persona: teacher, last: 3}}
- {{persona: teacher, last: 2, name: Newest}}
- "On two\\nlines"
- 'Is \nu = 0?'
- {{session: {session_id}}}
- {{session: {session_id}, history: free}}
- {{persona: teacher, last: 5}}
checks:
- {{contains: [a, b], ignore_case: true}}
- {{similarity: {{at_least: 0.3, to: That.}}, name: alike}}
- is_json: {{type: object}}
repeats: 3
concurrency: 2
context: {{turns: 5}}
recorded: true
stream: false
"""
    upload = (io.BytesIO(text.encode()), "plan.yaml")
    form = press(client, {}, "read-plan", **{"plan-file": upload})
    response = client.post("/comparisons/file", data=form.fields)
    assert response.mimetype == "application/yaml"
    assert response.headers["Content-Disposition"].endswith(".yaml")
    written = parse_comparison(response.data, file="w").spec
    wanted = parse_comparison(text, file="r").spec
    assert written == wanted


def test_a_plan_with_inputs_that_a_persona_will_have_is_a_file_already(client: FlaskClient) -> None:
    fields = {**opened(client, "/comparisons/new?variant=teacher&last=teacher"), "last": "7"}
    assert "has no turn with" in client.post("/comparisons", data=fields).text
    response = client.post("/comparisons/file", data=fields)
    assert response.mimetype == "application/yaml"
    (entry,) = parse_comparison(response.data, file="w").spec.inputs
    assert ("teacher", 7) == (entry.persona, entry.last)
    # What is wrong beside that is wrong in the file too.
    refused = client.post("/comparisons/file", data={**fields, "variant-0-upstream": "gone"})
    assert (400, ["variant-0-upstream"]) == (refused.status_code, Form(refused.text).invalid[:1])


def test_a_session_is_replayed_under_others(client: FlaskClient, rolebook: Rolebook) -> None:
    session_id = talk(client, "Why?", "And then?")
    page = client.get(f"/sessions/{session_id}").text
    assert f'href="/comparisons/new?session={session_id}"' in page
    fields = opened(client, f"/comparisons/new?session={session_id}")
    assert fields["variant-0-persona"] == "teacher"
    assert (fields["history"], fields["recorded"]) == ("fixed", "1")
    comparison = finished(rolebook, start(client, {**fields, "variant-1-persona": "plain"}))
    assert [v.is_recorded for v in comparison.variants] == [True, False, False]
    assert [entry.text for entry in comparison.inputs] == ["Why?", "And then?"]
    assert comparison.inputs[1].follows == comparison.inputs[0].recorded[0]
    free = finished(rolebook, start(client, {**fields, "history": "free"}))
    assert [entry.turns for entry in free.inputs] == [("Why?", "And then?")]


def test_a_replay_keeps_the_model_and_the_parameters_that_were_chosen(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    chosen = {"model": "ok?text=Clear", "s-temperature": "0.33", "more": "user=anna"}
    session_id = talk(client, "Why?", **chosen)
    upstream.reset()
    fields = opened(client, f"/comparisons/new?session={session_id}")
    comparison = finished(rolebook, start(client, fields))
    asked = upstream.requests[0].body
    assert ("ok?text=Clear", 0.33, "anna") == (asked["model"], asked["temperature"], asked["user"])
    assert comparison.variants[1].model == "ok?text=Clear"
    # The page of a session whose persona was edited compares what it was with what it is.
    revision = comparison.variants[0].revision
    address = f"/comparisons/new?session={session_id}&variant=teacher@{revision}&variant=plain"
    fields = opened(client, f"{address}&s-temperature=0.5")
    assert (fields["variant-0-model"], fields["variant-0-s-temperature"]) == (
        "ok?text=Clear",
        "0.5",
    )
    assert not fields["variant-1-model"]
    unknown = client.get(f"/comparisons/new?session={'0' * 18}&variant=teacher")
    assert unknown.status_code == 200


def test_a_replayed_role_of_ones_own_keeps_what_was_chosen(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    chosen = {"model": "ok?text=Clear", "s-temperature": "0.33"}
    session_id = talk(client, "Hi", persona="", system="You are a parrot.", **chosen)
    upstream.reset()
    finished(rolebook, start(client, opened(client, f"/comparisons/new?session={session_id}")))
    assert ("ok?text=Clear", 0.33) == (
        upstream.requests[0].body["model"],
        upstream.requests[0].body["temperature"],
    )


def test_a_plan_renders_what_it_shows_no_second_time_to_tell_it_apart(
    client: FlaskClient, rolebook: Rolebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare, prepared = rolebook.cells.prepare, Counter[str]()

    def counting(comparison: Comparison, key: CellKey) -> PreparedTurn:
        prepared[str(key)] += 1
        return prepare(comparison, key)

    monkeypatch.setattr(rolebook.cells, "prepare", counting)
    page = client.get(ADDRESS).text
    assert "What will be sent" in page
    # Each is tried out, looked at for the estimate, and told apart; the first one is shown as well.
    assert prepared == {"1-1-1": 3, "2-1-1": 3}


@pytest.mark.parametrize("history", ["fixed", "free"])
def test_a_recorded_answer_that_failed_is_shown_as_it_was(
    client: FlaskClient, rolebook: Rolebook, history: str
) -> None:
    session_id = talk(client, "Why?", model="429")
    client.post(f"/sessions/{session_id}/turns", data={"input": "And then?", "model": "ok"})
    fields = opened(client, f"/comparisons/new?session={session_id}&variant=plain")
    comparison = finished(rolebook, start(client, {**fields, "history": history}))
    page = client.get(f"/comparisons/{comparison.id}").text
    boxes = re.findall(r'<td class="box (\w+)" id="answer-(1-\d)', page)
    assert [status for status, _ in boxes] == ["failed", "complete"]
    assert page.count("gets too many requests from this key") == 1
    assert "Try again" not in page
    # It is told everywhere in the same way, and there is nothing to be done about it.
    total = len(boxes) if history == "fixed" else 1
    assert f"<strong>{2 * total - 1} of {2 * total}</strong>" in page
    assert '<span class="fact odd">1 failed</span>' in page
    assert not [name for name in ("start", "resume", "retry") if f'id="act-{name}"' in page]
    assert 'class="button primary" id="vote-blind"' in page
    assert f"{2 * total - 1} of {2 * total}" in client.get("/comparisons").text
    at_a_glance = client.get(f"/comparisons/{comparison.id}?view=matrix").text
    told = f"{total - 1} answered, in 0 of them a check failed; 1 failed"
    assert told in at_a_glance
    tally = client.get(f"/api/v1/comparisons/{comparison.id}/progress").get_json()["tally"]
    assert (1, 1) == (tally["failed"], tally["recorded_failed"])
    # It was no answer that another one could have drifted from.
    assert page.count("drift ") == 1


@pytest.mark.parametrize("history", ["fixed", "free"])
def test_a_replay_leads_to_its_original(
    client: FlaskClient, rolebook: Rolebook, history: str
) -> None:
    session_id = talk(client, "Why?", "And then?")
    link = f'href="/sessions/{session_id}"'
    reword(rolebook)
    fields = opened(client, f"/comparisons/new?session={session_id}&variant=teacher&variant=plain")
    others = {"variant-2-persona": "-", "variant-2-system": "Mine.", "recorded": ""}
    comparison = finished(rolebook, start(client, {**fields, **others, "history": history}))
    at = f"/comparisons/{comparison.id}"
    assert client.get(at).text.count(link) == len(comparison.inputs)
    assert link in client.get(f"{at}/cells/1-1-1").text
    cells = rolebook.comparisons.cells(comparison, inputs=[len(comparison.inputs) - 1])
    pages = [client.get(f"/sessions/{cell.session_id}").text for cell in cells]
    for cell, page in zip(cells, pages, strict=True):
        assert link in page
        assert f'href="{at}/cells/{cell.key}"' in page
    # What went before was said with the teacher as it was.
    since = [re.findall("From here on with ([^.]*)", page) for page in pages]
    told = [["another version of Teacher"], ["Plain assistant"], ["a role of your own"]]
    assert since == (told if history == "fixed" else [[], [], []])
    rolebook.log.delete([session_id])
    rolebook.log.purge_deleted("9999-01-01")
    assert link not in client.get(f"/sessions/{cells[0].session_id}").text


@pytest.mark.parametrize(
    "words", ["You are a parrot.", "You fill in {{ x }}.", "End with {% endraw %} and {# this #}."]
)
def test_a_role_of_ones_own_is_replayed_by_its_words(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream, words: str
) -> None:
    session_id = talk(client, "Hi", persona="", system=words)
    recorded = upstream.requests[-1].body["messages"]
    fields = opened(client, f"/comparisons/new?session={session_id}")
    assert fields["variant-0-persona"] == "-"
    assert fields["variant-0-system"] == words
    finished(rolebook, start(client, fields))
    assert upstream.requests[-1].body["messages"] == recorded


def test_several_ticked_sessions_become_one_plan(client: FlaskClient) -> None:
    ids = [talk(client, "One"), talk(client, "Two", persona="plain")]
    assert 'formaction="/comparisons/new"' in client.get("/sessions").text
    response = client.get(f"/comparisons/new?next=x&q=x&id={ids[0]}&id={ids[1]}")
    fields = opened(client, response.location)
    assert [fields[f"session-{i}"] for i in range(2)] == ids
    assert [fields[f"variant-{i}-persona"] for i in range(2)] == ["teacher", "plain"]
    left = press(client, fields, "remove-session 0").fields
    assert left["session-0"] == ids[1]
    assert "session-1" not in left


def test_an_edit_is_compared_on_the_newest_real_inputs(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    talk(client, "Why?", "And then?")
    assert "What did my edit change?" not in client.get("/personas/teacher").text
    old = rolebook.library.get_persona("teacher").revision.id
    reword(rolebook)
    page = client.get("/personas/teacher").text
    address = re.search(r'href="([^"]+)">What did my edit change\?', page)
    assert address
    page = client.get(unescape(address[1])).text
    assert "<del>patient</del><ins>strict</ins>" in page
    assert "answers 4 calls 4" in consequence(page)
    fields = Form(page).fields
    assert fields["question"] == "What did my edit of Teacher change?"
    assert fields["last"] == "10"
    first_used = moment(rolebook.comparisons.revision_times("teacher")[old])
    names = [f"Teacher, before ({first_used})", "Teacher, now"]
    assert [fields[f"variant-{i}-name"] for i in range(2)] == names
    other = press(client, {**fields, "variant-0-persona": "plain"}, "").fields
    assert [other[f"variant-{i}-name"] for i in range(2)] == ["", "Teacher, now"]
    comparison = finished(rolebook, start(client, fields))
    assert [variant.name for variant in comparison.variants] == names
    new = rolebook.library.get_persona("teacher").revision.id
    assert [variant.revision for variant in comparison.variants] == [old, new]
    assert [bool(entry.follows) for entry in comparison.inputs] == [False, True]


def test_an_edit_of_a_renamed_persona_is_compared_with_what_it_was_under_its_old_name(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    talk(client, "Why?", "And then?")
    old = rolebook.library.get_persona("teacher").revision.id
    reword(rolebook)
    client.post("/library/personas/teacher/rename", data={"id": "tutor"})
    page = client.get("/personas/tutor").text
    address = re.search(r'href="([^"]+)">What did my edit change\?', page)
    assert address
    assert "not used yet" not in page
    page = client.get(unescape(address[1])).text
    assert "<del>patient</del><ins>strict</ins>" in page
    assert "answers 4 calls 4" in consequence(page)
    fields = Form(page).fields
    assert f"tutor@{old}" == fields["variant-0-shown"]
    first_used = moment(rolebook.comparisons.revision_times("tutor")[old])
    assert f"Teacher, before ({first_used})" == fields["variant-0-name"]


def test_a_session_whose_persona_was_renamed_is_replayed_under_its_new_name(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    session_id = talk(client, "Why?", model="ok?text=Clear")
    client.post("/library/personas/teacher/rename", data={"id": "tutor"})
    for address in (f"session={session_id}", f"session={session_id}&variant=tutor"):
        fields = opened(client, f"/comparisons/new?{address}")
        assert [fields[f"variant-0-{name}"] for name in ("persona", "shown", "model")] == [
            "tutor",
            "tutor",
            "ok?text=Clear",
        ]
    comparison = finished(rolebook, start(client, fields))
    assert [variant.persona_id for variant in comparison.variants] == ["teacher", "tutor"]
    path = rolebook.library.personas_dir / "tutor.yaml"
    path.unlink()
    page = client.get(f"/comparisons/new?session={session_id}").text
    assert "There is no persona &#39;tutor&#39; any more. What it was last is tutor@" in page


def test_a_plan_and_its_result_say_what_goes_along_with_inputs(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    tools = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    asked = {
        "model": "teacher",
        "messages": [{"role": "user", "content": "Why?"}],
        "tools": tools,
    }
    session_id = client.post("/v1/chat/completions", json=asked).headers["X-Rolebook-Session"]
    page = client.get(f"/comparisons/new?session={session_id}&variant=plain").text
    told = "1 input goes with what was wanted of its answer: tools. What a persona fixes itself"
    assert told in consequence(page)
    assert "look" in consequence(page)
    comparison = finished(rolebook, start(client, Form(page).fields))
    assert [entry.request for entry in comparison.inputs] == [{"tools": tools}]
    assert told in text_of(client.get(f"/comparisons/{comparison.id}").text)


def test_a_session_whose_persona_changed_offers_both_revisions(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    session_id = talk(client, "Why?")
    old = rolebook.library.get_persona("teacher").revision.id
    reword(rolebook)
    page = client.get(f"/sessions/{session_id}").text
    address = re.search(r'href="([^"]+)">Compare both on this session', page)
    assert address
    fields = opened(client, unescape(address[1]))
    assert [fields[f"variant-{i}-revision"] for i in range(2)] == [old, ""]
    assert fields["session-0"] == session_id


def test_all_that_is_missing_is_marked_at_once(client: FlaskClient) -> None:
    fields = {**opened(client, "/comparisons/new"), "repeats": "1"}
    response = client.post("/comparisons", data=fields)
    assert set(Form(response.text).invalid) == {"variant-0-persona", "lines"}
    described = {**fields, "variant-0-persona": "-", "variant-1-persona": "-"}
    described |= {"check-0-kind": "max_words", "check-0-value": ""}
    response = client.post("/comparisons", data=described)
    invalid = {"variant-0-system", "variant-1-system", "lines", "check-0-value"}
    assert set(Form(response.text).invalid) == invalid
    assert "Some things are missing or wrong; they are marked below." in response.text


def test_what_was_filled_in_on_a_personas_page_goes_along(client: FlaskClient) -> None:
    page = client.get("/personas/teacher").text
    assert 'formaction="/comparisons/new" name="variant" value="teacher"' in page
    response = client.get(
        "/comparisons/new?persona=teacher&variant=teacher&v-subject=physics&v-level=beginner"
        "&model=&s-temperature=0.2&input=Why%3F"
    )
    assert len(response.location) < 90
    fields = opened(client, response.location)
    assert fields["variant-0-v-subject"] == "physics"
    assert fields["variant-0-v-level"] == ""
    assert fields["variant-0-s-temperature"] == "0.2"
    assert fields["lines"] == "Why?"


def test_the_preview_shows_any_cell_as_a_piece_of_a_page(client: FlaskClient) -> None:
    fields = {**opened(client), "lines": "One\nTwo", "cell-variant": "1", "cell-input": "1"}
    page = client.post("/comparisons/preview", json=fields).text
    assert "<html" not in page
    said = consequence(page)
    assert "Answer briefly." in said
    assert "your input Two" in said
    begun = {"check-0-kind": "contains", "variant-2-persona": "-"}
    assert consequence(client.post("/comparisons/preview", json={**fields, **begun}).text) == said
    assert "say the same" not in said
    same = client.post("/comparisons/preview", json={**fields, "lines": "One\nTwo\nOne\nTwo"}).text
    assert (
        "2 inputs say the same as earlier ones and count as repeats of these: numbers 3, 4." in same
    )
    without = client.post("/comparisons/preview", json={**fields, "lines": ""}).text
    assert "Nothing is said yet" in without


def test_what_will_be_taken_from_the_log_counts_as_no_call(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    fields = {**opened(client), "lines": "One\nTwo"}
    finished(rolebook, start(client, fields))
    more = {**fields, "lines": "One\nTwo\nThree"}
    assert "<dt>calls</dt><dd>6</dd>" in client.post("/comparisons/preview", json=more).text
    page = client.post("/comparisons/preview", json={**more, "reusing": "1"}).text
    assert "<dt>calls</dt><dd>2</dd>" in page
    assert "4 of them from the log" in page


@pytest.mark.parametrize(("choice", "value"), [("language", "zh"), ("theme", "dark")])
def test_another_language_or_theme_loses_nothing_of_a_plan(
    client: FlaskClient, choice: str, value: str
) -> None:
    fields = {**opened(client), "question": "Who?", "variant-1-name": "Mine", "lines": "A\nB"}
    page = client.get(ADDRESS).text
    found = re.search(rf'form="plan" formaction="([^"]+)"[^>]* name="{choice}"', page)
    assert found
    chosen = client.post(unescape(found[1]), data={**fields, choice: value})
    # A browser sends the same once more, to where this leads.
    assert chosen.status_code == 307
    response = client.post(chosen.location, data={**fields, choice: value})
    kept = Form(response.text).fields
    assert fields == {name: kept[name] for name in fields}
    assert ('lang="zh-Hans"' if value == "zh" else 'data-theme="dark"') in response.text


def test_a_reload_after_a_preview_leads_back_to_the_form(client: FlaskClient) -> None:
    for path in ("/comparisons/preview", "/comparisons/file"):
        assert client.get(path).location == "/comparisons/new"


@pytest.mark.parametrize("text", ['"><img src=x onerror=alert(1)>', "<script>alert(1)</script>"])
def test_what_people_write_is_inert(client: FlaskClient, text: str) -> None:
    names = [
        "question",
        "lines",
        "scripts",
        "variant-0-name",
        "variant-0-system",
        "variant-0-model",
    ]
    names += ["variant-0-persona", "variant-0-changes", "check-0-value", "check-0-kind", "rows"]
    for name in names:
        fields = {**opened(client), name: text}
        for path in ("/comparisons/new", "/comparisons/preview", "/comparisons"):
            page = client.post(path, data=fields).text
            assert "<img" not in page
            assert "<script>a" not in page


def test_an_empty_list_offers_an_example_that_only_has_to_be_started(
    make_rolebook: MakeRolebook,
) -> None:
    from rolebook.web.app import create_app

    book = make_rolebook()
    client = create_app(book).test_client()
    page = client.get("/comparisons").text
    address = re.search(r'href="([^"]+)">Open the example', page)
    assert address
    fields = opened(client, unescape(address[1]))
    comparison = finished(book, start(client, fields))
    assert len(comparison.variants) == 2
    assert len(comparison.inputs) == 3
    assert book.comparisons.tally(comparison).complete == 6


def test_the_list_tells_how_far_each_is(
    client: FlaskClient, rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    upstream.model_rule("broken", "401")
    fields = {**opened(client), "question": "Who is <b>?", "variant-1-model": "broken"}
    finished(rolebook, start(client, fields))
    page = client.get("/comparisons").text
    row = text_of(page[page.index("<tbody>") : page.index("</tbody>")])
    assert "Who is <b>?" in row
    assert "1 of 2" in row
    assert "1 failed" in row


def test_deleted_comparisons_are_stopped_and_can_be_taken_back(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    comparison_id = start(client, opened(client))
    response = client.post("/comparisons/delete", data={"id": [comparison_id, "nonsense"]})
    assert response.location == f"/comparisons?deleted={comparison_id}"
    assert rolebook.compare.run_of(comparison_id).has_ended  # type: ignore[union-attr]
    page = client.get(response.location).text
    assert "1 comparison is in the trash now." in page
    assert f'href="/comparisons/{comparison_id}"' not in page
    assert comparison_id in client.get("/comparisons?trash=1").text
    client.post("/comparisons/restore", data={"id": comparison_id})
    assert f'href="/comparisons/{comparison_id}"' in client.get("/comparisons").text


def damage(rolebook: Rolebook, comparison_id: str) -> None:
    """Leave a plan in the log as no Rolebook writes one any more."""
    sql = "UPDATE comparisons SET plan = json_remove(plan, '$.variants[0].name') WHERE id = ?"
    with closing(sqlite3.connect(rolebook.log.path)) as db, db:
        assert 1 == db.execute(sql, (comparison_id,)).rowcount


def test_a_damaged_plan_takes_no_others_away_and_can_be_deleted(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    plans = [{**opened(client), "question": "Which one is lost?"} for _ in range(2)]
    lost, kept = (finished(rolebook, start(client, fields)).id for fields in plans)
    damage(rolebook, lost)
    page = client.get("/comparisons").text
    assert "damaged in the log: it cannot be shown, only deleted" in page
    assert f'value="{lost}"' in page
    assert f'href="/comparisons/{lost}"' not in page
    assert f'href="/comparisons/{kept}"' in page
    shown = client.get(f"/comparisons/{lost}")
    assert (503, True) == (shown.status_code, "in the log is damaged" in shown.text)
    client.post("/comparisons/delete", data={"id": lost})
    assert f'value="{lost}"' not in client.get("/comparisons").text.partition("<tbody>")[2]
    assert f'value="{lost}"' in client.get("/comparisons?trash=1").text


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (
            "plan = json_set(plan, '$.variants[1].revision', 'f00')",
            "plan.variants[1].revision: the revision f00 is not in the log, or damaged there.",
        ),
        (
            "plan = json_remove(plan, '$.variants[1]')",
            "It has fewer variants, inputs or repeats than there are answers or votes.",
        ),
        ("plan = '['", "It is no JSON."),
    ],
)
def test_the_list_says_of_a_comparison_that_cannot_be_shown_what_is_damaged(
    client: FlaskClient, rolebook: Rolebook, damage: str, reason: str
) -> None:
    lost, kept = (finished(rolebook, start(client, opened(client))).id for _ in range(2))
    with closing(sqlite3.connect(rolebook.log.path)) as db, db:
        db.execute(f"UPDATE comparisons SET {damage} WHERE id = ?", (lost,))
    page = client.get("/comparisons").text
    assert reason in text_of(page)
    assert f'href="/comparisons/{kept}"' in page
    shown = client.get(f"/comparisons/{lost}")
    assert (503, True) == (shown.status_code, reason in text_of(shown.text))


#: For each damage of one row of a comparison, what is said of it.
ROWS = {
    "cells SET reused = '{{'": "It has a cell that does not tell which answers it shows.",
    "cells SET reused = '3'": "It has a cell that does not tell which answers it shows.",
    "ballots SET outcome = 'weird'": "The vote .+ cannot be read.",
    "ballots SET right_variant = left_variant": "The vote .+ cannot be read.",
    "turns SET status = 'odd'": "The turn .+ cannot be read.",
    "turns SET completion_tokens = 'many'": "The turn .+ cannot be read.",
    "turns SET duration_ms = 'long'": "The turn .+ cannot be read.",
    "turns SET cost = 'dear'": "The turn .+ cannot be read.",
    "turns SET error = '[]'": "The turn .+ cannot be read.",
    "turns SET choices = '{'": "The turn .+ cannot be read.",
    "check_results SET said = '{bad'": "What a check found on the turn .+ cannot be read.",
    "check_results SET said = '{}'": "What a check found on the turn .+ cannot be read.",
}


@pytest.mark.parametrize("damage", ROWS)
def test_one_damaged_row_takes_its_comparison_away_and_no_other(
    client: FlaskClient, rolebook: Rolebook, library_dir: Path, damage: str
) -> None:
    fields = {**opened(client), "check-0-kind": "max_words", "check-0-value": "80"}
    others = {**fields, "input-0": "Why is it red?"}
    lost, kept = (finished(rolebook, start(client, each)).id for each in (fields, others))
    ballot = Ballot(new_id(), lost, CellKey(0, 0, 0), CellKey(1, 0, 0))
    rolebook.comparisons.create_ballot(ballot)
    rolebook.comparisons.cast_ballot(ballot.id, Outcome.LEFT)
    turns = "SELECT turns.number FROM turns JOIN sessions ON sessions.number = session WHERE comparison = 1"
    row = {"turns": f"number IN ({turns})", "check_results": f"turn IN ({turns})"}
    with closing(sqlite3.connect(rolebook.log.path)) as db, db:
        where = row.get(damage.partition(" ")[0], "comparison = 1")
        assert db.execute(f"UPDATE {damage} WHERE {where}").rowcount
    told, way_out = re.compile(ROWS[damage]), f"rolebook comparisons delete {lost}"
    listed = client.get("/comparisons").text
    assert told.search(text_of(listed))
    assert f'value="{lost}"' in listed
    assert f'href="/comparisons/{lost}"' not in listed
    assert f'href="/comparisons/{kept}"' in listed
    for part in ("", "/evidence", "/vote", "/cells/1-1-1", "/export?format=csv"):
        shown = client.get(f"/comparisons/{lost}{part}")
        said = text_of(shown.text)
        assert (503, True, True) == (shown.status_code, bool(told.search(said)), way_out in said)
    assert client.get(f"/comparisons/{kept}/evidence").status_code == 200
    shell = Shell(library_dir, {"ROLEBOOK_DATABASE": str(rolebook.log.path)})
    lines = shell.run("comparisons", "--json").json
    assert [(kept, False), (lost, True)] == [(line["id"], bool(line["flaw"])) for line in lines]
    refused = shell.run("comparisons", "show", lost)
    assert (1, True) == (refused.status, way_out in refused.notices)
    assert shell.run("comparisons", "delete", lost).status == 0
    assert "comparisons: 1" in shell.run("empty-trash", "--days", "0", "--yes").notices


@pytest.mark.parametrize(
    "damage",
    [
        "breaks = '[{]'",
        """breaks = '[{"error": 1}]'""",
        """breaks = '[{"error": {"code": "x", "message": "%(a)s"}, "upstream": "", "calls": 0, "at": ""}]'""",
    ],
)
def test_why_a_run_broke_off_may_be_damaged_and_nothing_else_is_lost_with_it(
    client: FlaskClient, rolebook: Rolebook, damage: str
) -> None:
    comparison = finished(rolebook, start(client, opened(client)))
    with closing(sqlite3.connect(rolebook.log.path)) as db, db:
        db.execute(f"UPDATE comparisons SET {damage}")
    path = f"/comparisons/{comparison.id}"
    assert f'href="{path}"' in client.get("/comparisons").text
    assert "Why its last run broke off is damaged in the log." in client.get(path).text
    assert rolebook.comparisons.get_summary(comparison.id).flaw is None


@pytest.mark.parametrize("time", ["yesterday", "2026-11-30"])
def test_when_a_comparison_was_planned_may_be_damaged_and_it_is_shown_all_the_same(
    client: FlaskClient, rolebook: Rolebook, time: str
) -> None:
    comparison = finished(rolebook, start(client, opened(client)))
    with closing(sqlite3.connect(rolebook.log.path)) as db, db:
        changed = "plan = json_set(plan, '$.created_at', :time), created_at = :time"
        db.execute(f"UPDATE comparisons SET {changed}", {"time": time})
    path = f"/comparisons/{comparison.id}"
    assert f'href="{path}"' in client.get("/comparisons").text
    assert client.get(path).status_code == 200
    exported = client.get(f"{path}/export?format=html").text
    assert "Planned –" in text_of(exported)


def test_programs_are_told_of_a_damaged_plan_and_can_delete_it(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    lost, kept = (finished(rolebook, start(client, opened(client))).id for _ in range(2))
    damage(rolebook, lost)
    listed = client.get("/api/v1/comparisons").get_json()["comparisons"]
    assert [(kept, False), (lost, True)] == [(line["id"], bool(line["flaw"])) for line in listed]
    path = f"/api/v1/comparisons/{lost}"
    assert client.get(path).status_code == 503
    assert client.delete(path).get_json()["deleted_at"]
    assert client.delete(path).status_code == 404
    assert client.post(f"{path}/restore", json={}).get_json()["deleted_at"] == ""


def test_the_list_goes_on_page_by_page(client: FlaskClient, rolebook: Rolebook) -> None:
    from rolebook.core.comparison_spec import parse_spec

    spec = parse_spec({"variants": ["plain"], "inputs": ["x"]})
    for _ in range(41):
        rolebook.compare.create(rolebook.compare.plan(spec))
    first = client.get("/comparisons").text
    assert first.count('name="id"') == 40
    older = re.search(r'rel="next" href="([^"]+)"', first)
    assert older
    assert client.get(unescape(older[1])).text.count('name="id"') == 1


def test_the_gallery_can_be_ticked_without_script(client: FlaskClient) -> None:
    page = client.get("/").text
    assert 'name="variant" value="teacher" form="compare"' in page
    assert '<form class="bar" id="compare" method="get" action="/comparisons/new"' in page


LIKE: dict[str, Any] = {
    "question": "Who is clearer?",
    "variants": [
        "teacher",
        {"persona": "teacher", "changes": {"system": "Say {{ subject }} in a word."}},
        {"persona": "plain", "model": "ok?text=Hi", "name": "Brief"},
        {"system": "You sell {{ 7*7 }} hats.", "sampling": {"temperature": 0.1}},
    ],
    "inputs": [
        "Why?",
        {"input": "Two\nlines", "tags": ["hard"], "reference": "Because.", "name": "Long"},
        {"turns": ["One", "And two"], "variables": {"subject": "law"}},
        {"input": "Then?", "earlier": [{"user": "First?", "assistant": "Yes."}]},
    ],
    "repeats": 2,
    "checks": [{"max_words": 9, "name": "short"}, {"similarity": {"at_least": 0.5}}],
}


def test_a_comparison_is_planned_once_more_to_be_changed(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    """Where results say that it takes more inputs, nobody writes all of it anew."""
    first = rolebook.compare.create(rolebook.compare.plan(parse_spec(LIKE)))
    assert f'href="/comparisons/new?like={first.id}"' in client.get(f"/comparisons/{first.id}").text
    fields = opened(client, f"/comparisons/new?like={first.id}")
    again = finished(rolebook, start(client, fields))
    as_planned = {"id": "", "created_at": ""}
    assert replace(first, **as_planned) == replace(again, **as_planned)
    more = finished(rolebook, start(client, {**fields, "begun": "", "lines": "Why?\nHow?"}))
    assert [*first.inputs[:1], ComparisonInput(("How?",)), *first.inputs[1:]] == [*more.inputs]
    assert client.get("/comparisons/new?like=01aaaaaaaaaaaaaaaa").status_code == 404


def test_what_was_rehearsed_is_planned_again_with_the_model_that_there_is_now(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    plan = rolebook.compare.plan(parse_spec({"variants": ["plain"], "inputs": ["Why?"]}))
    rehearsed = replace(plan, comparison=replace(plan.comparison, upstream="rehearsal"))
    first = rolebook.compare.create(rehearsed)
    again = finished(rolebook, start(client, opened(client, f"/comparisons/new?like={first.id}")))
    assert ("rehearsal", "ok") == (first.upstream, again.variants[0].model)
    assert again.upstream == rolebook.upstreams.get("").name


def test_a_persona_without_a_file_takes_part_as_the_log_knows_it(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    first = rolebook.compare.create(rolebook.compare.plan(parse_spec(LIKE)))
    rolebook.library.personas_dir.joinpath("teacher.yaml").unlink()
    fields = opened(client, f"/comparisons/new?like={first.id}")
    assert ["teacher", first.variants[0].revision] == [
        fields[f"variant-0-{name}"] for name in ("persona", "revision")
    ]
    again = finished(rolebook, start(client, fields))
    assert first.variants == again.variants


def test_a_plan_like_one_of_the_log_takes_its_sessions_and_what_the_persona_was(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    session = talk(client, "Why?", "And then?")
    begun = opened(client, f"/comparisons/new?session={session}")
    first = finished(rolebook, start(client, begun))
    was = first.variants[1].revision
    reword(rolebook)
    fields = opened(client, f"/comparisons/new?like={first.id}")
    assert (session, "fixed", "1") == tuple(
        fields[name] for name in ("session-0", "history", "recorded")
    )
    again = finished(rolebook, start(client, fields))
    assert [variant.is_recorded for variant in again.variants] == [True, False]
    assert was == again.variants[1].revision
    assert first.inputs == again.inputs


def test_a_plan_like_another_has_all_that_a_page_can_carry_and_no_more(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    """Sessions are but named, however long they are; what goes with the inputs of a file is carried, too."""

    def plan_like(*inputs: dict[str, Any]) -> TestResponse:
        spec = {"variants": ["teacher", "plain"], "inputs": inputs}
        first = rolebook.compare.create(rolebook.compare.plan(parse_spec(spec)))
        return client.get(f"/comparisons/new?like={first.id}")

    long = "Why? " * 30_000
    session = talk(client, *[long] * 5)
    assert session in plan_like({"session": session}).text
    refused = plan_like(*({"input": f"{n}?", "reference": long} for n in range(5)))
    assert refused.status_code == 400
    assert "more inputs than a page can carry" in refused.text
