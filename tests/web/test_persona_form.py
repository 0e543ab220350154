"""A persona as a form: it shows the file, changes what was changed, and carries everything to the text and back."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from rolebook.core.source import etag_of
from tests.conftest import TEACHER
from tests.web.test_library import HOSTILE, area_of, etag_on, text_of

PAGE = "/library/personas/teacher/form"
FILE = "/library/personas/teacher"
#: What a browser does not send, as they are not ticked.
CHECKBOXES = {(f"f-variables-{number}-required", "true") for number in range(2)}
NOTED = TEACHER + "mood: warm  # nobody knows this\n# the end\n"


@pytest.fixture
def personas(library_dir: Path) -> Path:
    return library_dir / "personas"


def submit(client: FlaskClient, text: str, path: str = PAGE, **fields: str) -> TestResponse:
    """With fields of the file named as in it, ``__`` for ``-``, and those of the page in capitals."""
    named = {
        name.lower() if name.isupper() else f"f-{name.replace('__', '-')}": value
        for name, value in fields.items()
    }
    return client.post(path, data={"text": text, "etag": etag_of(text), **named})


def value_of(page: str, name: str) -> str:
    """What stands in the input of a field."""
    found = re.search(rf'<input id="f-{name}" name="f-{name}"[^>]*? value="([^"]*)"', page)
    return unescape(found[1]) if found else area_of(page, f"f-{name}")


def error_at(page: str, name: str) -> str:
    found = re.search(rf'data-error="{name}"( hidden)?>(.*?)</p>', page, re.DOTALL)
    assert found
    return unescape(found[2])


def test_the_file_is_shown_by_its_fields(client: FlaskClient) -> None:
    page = client.get(PAGE).text
    assert value_of(page, "name") == "Teacher"
    assert (
        value_of(page, "system") == "You are a patient teacher of {{ subject }} for a {{ level }}."
    )
    assert value_of(page, "examples-0-assistant") == "A piece of a whole."
    assert value_of(page, "variables-0-name") == "subject"
    assert value_of(page, "variables-1-choices") == "beginner\nexpert"
    assert TEACHER == area_of(page)
    assert etag_of(TEACHER) == etag_on(page)
    assert "You are a patient teacher of mathematics for a beginner" in text_of(page)


def test_saving_changes_the_lines_of_what_was_changed(client: FlaskClient, personas: Path) -> None:
    (personas / "teacher.yaml").write_text(NOTED, "utf-8")
    response = submit(
        client, NOTED, DO="save", description="Explains well.", sampling__temperature="1"
    )
    assert response.status_code == 200
    assert "Saved." in text_of(response.text)
    expected = NOTED.replace("Explains one idea at a time.", "Explains well.").replace("0.7,", "1,")
    assert expected == (personas / "teacher.yaml").read_text("utf-8")
    assert expected == area_of(response.text)
    assert etag_of(expected) == etag_on(response.text)
    assert "mood" in text_of(response.text)


def test_untouched_form_writes_nothing(client: FlaskClient, personas: Path) -> None:
    page = client.get(PAGE).text
    inputs = re.findall(r'<input[^>]* name="(f-[^"]+)"[^>]* value="([^"]*)"(?! checked)', page)
    fields = {name: unescape(value) for name, value in inputs if (name, value) not in CHECKBOXES}
    selects = re.findall(
        r'<select[^>]* name="(f-[^"]+)".*?value="([^"]*)" selected', page, re.DOTALL
    )
    areas = re.findall(r'<textarea[^>]* name="(f-[^"]+)"', page)
    fields |= dict(selects) | {name: area_of(page, name) for name in areas}
    assert len(fields) > 40
    response = client.post(
        PAGE, data={"text": TEACHER, "etag": etag_of(TEACHER), "do": "save", **fields}
    )
    assert "nothing was written" in text_of(response.text)
    assert TEACHER == (personas / "teacher.yaml").read_text("utf-8")


def test_mistakes_stand_at_their_field_and_nothing_is_saved(
    client: FlaskClient, personas: Path
) -> None:
    response = submit(
        client, TEACHER, DO="save", sampling__temperature="warm", name=" ", system="{{ nobody }}"
    )
    assert response.status_code == 422
    page = response.text
    assert "must be a number from 0 to 2, got 'warm'" in error_at(page, "sampling-temperature")
    assert "must be text that is not empty" in error_at(page, "name")
    assert value_of(page, "sampling-temperature") == "warm"
    assert "what is wrong stands at its field" in text_of(page)
    assert TEACHER == (personas / "teacher.yaml").read_text("utf-8")
    page = submit(client, TEACHER, DO="save", system="{{ nobody }}").text
    assert "nobody" in error_at(page, "system")


def test_variable_without_a_name_is_told_at_its_field_and_kept_on_the_page(
    client: FlaskClient,
) -> None:
    fields = {
        "variables__rows": "1",
        "variables__0__default": "physics",
        "variables__0__type": "text",
    }
    for task in ("save", "text"):
        page = submit(client, TEACHER, DO=task, **fields).text
        assert "needs a name" in error_at(page, "variables-0-name")
        assert value_of(page, "variables-0-default") == "physics"


def test_rows_are_added_moved_and_removed_without_scripts(client: FlaskClient) -> None:
    page = submit(client, TEACHER, DO="add-examples").text
    assert value_of(page, "examples-1-user") == ""
    rows = {
        "examples__rows": "1",
        "examples__0__source": "0",
        "examples__0__user": "What is a fraction?",
        "examples__0__assistant": "A piece of a whole.",
        "examples__1__user": "Why?",
        "examples__1__assistant": "Because.",
    }
    page = submit(client, TEACHER, DO="up-examples-1", **rows).text
    assert value_of(page, "examples-0-user") == "Why?"
    assert "user: Why?" in text_of(page)
    page = submit(client, TEACHER, DO="remove-examples-0", **rows).text
    assert value_of(page, "examples-0-user") == "Why?"
    assert "examples-1-user" not in page
    for step in (
        "remove-examples-9",
        "up-examples-0",
        "down-nothing-1",
        "add-x",
        "up-examples-x",
        "-",
    ):
        assert value_of(submit(client, TEACHER, DO=step, **rows).text, "examples-1-user") == "Why?"


def test_variables_are_moved_without_scripts(client: FlaskClient) -> None:
    assert 'value="down-variables-0"' in client.get(PAGE).text
    page = submit(client, TEACHER, DO="down-variables-0").text
    assert "level" == value_of(page, "variables-0-name")
    subject, level = TEACHER.splitlines(keepends=True)[8:10]
    assert f"variables:\n{level}{subject}sampling:" in lines_of(page)
    assert 'value="up-variables-1"' in page


def lines_of(page: str) -> str:
    """The file as the form shows it."""
    shown = page.partition('<pre id="text"')[2].partition("</pre>")[0].partition(">")[2]
    return unescape(re.sub("<[^>]+>", "", shown))


def test_unsaved_changes_go_along_to_the_text_and_back(client: FlaskClient, personas: Path) -> None:
    page = submit(client, NOTED, DO="text", name="Ada").text
    text = area_of(page)
    assert text == NOTED.replace("name: Teacher", "name: Ada")
    assert "data-dirty" in page
    changed = text.replace("warm", "cold")
    page = client.post(PAGE, data={"text": changed, "etag": etag_on(page)}).text
    assert value_of(page, "name") == "Ada"
    assert changed == area_of(page)
    assert "data-dirty" in page
    assert TEACHER == (personas / "teacher.yaml").read_text("utf-8")


def test_view_as_text_of_what_is_saved_is_not_unsaved(client: FlaskClient) -> None:
    assert "data-dirty" not in submit(client, TEACHER, DO="text").text


def test_text_that_cannot_be_read_goes_back_as_it_was(client: FlaskClient, personas: Path) -> None:
    broken = 'name: "x\nsystem: y\n'
    page = submit(client, broken).text
    assert "cannot be shown as a form yet" in text_of(page)
    assert "never closed" in text_of(page)
    assert "line 1" in text_of(page)
    assert broken == area_of(page)
    (personas / "teacher.yaml").write_text(broken, "utf-8")
    assert "cannot be shown as a form yet" in text_of(client.get(PAGE).text)


def test_file_changed_meanwhile_is_put_together_as_text(
    client: FlaskClient, personas: Path
) -> None:
    client.get(PAGE)
    theirs = TEACHER.replace("[education]", "[education, work]")
    (personas / "teacher.yaml").write_text(theirs, "utf-8")
    response = submit(client, TEACHER, DO="save", name="Ada")
    assert response.status_code == 409
    assert area_of(response.text) == theirs.replace("name: Teacher", "name: Ada")


def test_new_persona_begins_as_a_form(client: FlaskClient, personas: Path) -> None:
    response = client.get("/library/new", query_string={"kind": "personas", "title": "Café Coach!"})
    assert response.location == "/library/personas/cafe-coach/form?new=&title=Caf%C3%A9+Coach!"
    page = client.get(response.location).text
    assert value_of(page, "name") == "Café Coach!"
    response = client.post(
        "/library/personas/cafe-coach/form",
        data={"text": area_of(page), "etag": "", "do": "save", "f-system": "You serve.\nKindly."},
    )
    assert response.status_code == 200
    saved = (personas / "cafe-coach.yaml").read_text("utf-8")
    assert saved.endswith("name: Café Coach!\nsystem: |-\n  You serve.\n  Kindly.\n")


def test_id_is_made_from_the_name_and_is_free(client: FlaskClient) -> None:
    def id_of(title: str) -> str:
        location = client.get(
            "/library/new", query_string={"kind": "personas", "title": title}
        ).location
        return location.split("/")[3]

    assert id_of("Teacher") == "teacher-2"
    assert id_of("老师") == "persona"
    assert id_of("con") == "persona"


def test_form_of_a_new_id_that_is_taken_leads_to_its_file(client: FlaskClient) -> None:
    assert PAGE == client.get(f"{PAGE}?new").location


def test_what_a_base_says_is_shown_where_a_field_is_blank(
    client: FlaskClient, personas: Path
) -> None:
    text = "name: Strict\nextends: teacher\nsampling: {top_p: 0.5}\n"
    (personas / "strict.yaml").write_text(text, "utf-8")
    page = client.get("/library/personas/strict/form").text
    assert value_of(page, "system") == ""
    words = text_of(page)
    assert "Left blank, as in Teacher: Explains one idea at a time." in words
    assert "From Teacher it also has: subject, level." in words
    assert 'placeholder="as in Teacher: 0.7"' in page
    path = "/library/personas/strict/form"
    response = submit(client, text, path=path, DO="save", sampling__temperature="0.2")
    assert response.status_code == 200
    saved = (personas / "strict.yaml").read_text("utf-8")
    assert saved == text.replace("{top_p: 0.5}", "{temperature: 0.2, top_p: 0.5}")


def test_hostile_words_stay_words(client: FlaskClient, personas: Path) -> None:
    page = submit(
        client, TEACHER, name=HOSTILE, variables__rows="1", variables__0__name=HOSTILE
    ).text
    assert "<script>alert" not in page
    assert value_of(page, "name") == HOSTILE


def test_scripts_get_mistakes_by_field_and_pieces(client: FlaskClient) -> None:
    fields = {"text": TEACHER, "etag": "", "f-name": "Ada", "f-sampling-temperature": "9"}
    seen = client.post(f"{PAGE}/look", json=fields).get_json()
    assert list(seen["mistakes"]) == ["sampling-temperature"]
    assert "name: Ada\n" in seen["text"]
    assert 'id="yaml"' in seen["html"]
    assert not seen["hasPreview"]
    seen = client.post(
        f"{PAGE}/look", json={"text": TEACHER, "etag": "", "do": "add-variables"}
    ).get_json()
    assert "f-variables-2-name" in seen["html"]
    assert client.post(f"{PAGE}/look", json={"text": "a: [", "etag": ""}).status_code == 422


def test_page_as_text_leads_to_the_form(client: FlaskClient) -> None:
    assert f'formaction="{PAGE}"' in client.get(FILE).text


def test_checks_are_shown_as_they_are_and_stay(client: FlaskClient, personas: Path) -> None:
    checks = (
        "checks:\n  - {name: short, max_words: 80}\n  - is_json: true\n  - contains: [<b>, two]\n"
    )
    (personas / "teacher.yaml").write_text(TEACHER + checks, "utf-8")
    words = " ".join(text_of(client.get(PAGE).text).split())
    for said in ("short words, at most 80", "is JSON", "contains <b>, two"):
        assert said in words
    assert "The file also has" not in words
    submit(client, TEACHER + checks, DO="save", description="Explains well.")
    assert (personas / "teacher.yaml").read_text("utf-8").endswith(checks)
