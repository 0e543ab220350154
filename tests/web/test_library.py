"""The library's pages: files with their state, a text looked at as it is written, saving, and the trash."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from rolebook.core.source import etag_of
from tests.conftest import TEACHER
from tests.web.checks import assert_error, eventually

PAGE = "/library/personas/teacher"
HOSTILE = "</textarea><script>alert(1)</script>{{ 7*7 }} \"'&"


def text_of(html: str) -> str:
    """The words of a page."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def area_of(page: str, name: str = "text") -> str:
    """What stands in a textarea, as a browser reads it."""
    found = re.search(rf'<textarea[^>]* name="{name}"[^>]*>\n(.*?)</textarea>', page, re.DOTALL)
    assert found, page
    return unescape(found[1])


def etag_on(page: str) -> str:
    found = re.search(r'name="etag" value="([^"]*)"', page)
    assert found
    return found[1]


def look(client: FlaskClient, text: str, path: str = PAGE, **fields: str) -> dict[str, Any]:
    response = client.post(f"{path}/look", json={"text": text, "etag": "", **fields})
    assert response.status_code == 200, response.text
    seen: dict[str, Any] = response.get_json()
    return seen


def save(client: FlaskClient, text: str, etag: str, path: str = PAGE, **more: str) -> TestResponse:
    return client.post(f"{path}/save", data={"text": text, "etag": etag, **more})


@pytest.fixture
def personas(library_dir: Path) -> Path:
    return library_dir / "personas"


def test_every_file_is_listed_with_its_state(client: FlaskClient, personas: Path) -> None:
    (personas / "broken.yaml").write_text("name: [\n")
    (personas / "Upper.yaml").write_text("name: x\nsystem: y\n")
    client.get("/library")
    (personas / "friend.yaml").write_text("name: [\n", "utf-8")
    page = text_of(eventually(lambda: client.get("/library").text, "last good version in use"))
    assert "Teacher" in page
    assert "broken broken, not in use" in page
    assert "few-shot" in page
    assert "Files that cannot be opened here" in page
    assert "Upper.yaml" in page


def test_an_empty_library_helps_to_begin(client: FlaskClient, personas: Path) -> None:
    for path in [*personas.iterdir(), *(personas.parent / "templates").iterdir()]:
        path.unlink()
    assert "Begin with a name" in eventually(lambda: client.get("/library").text, "none here yet")


def test_a_file_is_shown_as_it_stands_with_what_it_sends(client: FlaskClient) -> None:
    page = client.get(PAGE, query_string={"input": "Why?"}).text
    assert TEACHER == area_of(page)
    assert etag_of(TEACHER) == etag_on(page)
    words = text_of(page)
    assert "You are a patient teacher of mathematics for a beginner ." in words
    assert "Nothing is wrong with this text." in words
    assert "persona 15 · example 19 · greeting 14 · your input 6" in words


def test_a_look_tells_what_is_wrong_and_where(client: FlaskClient) -> None:
    seen = look(client, TEACHER.replace("level:", "levle:").replace("tags:", "tgas:"))
    assert [(3, 1, "warning"), (7, 55, "error")] == [
        (mark["line"], mark["column"], mark["severity"])
        for mark in sorted(seen["problems"], key=lambda mark: mark["line"])
    ]
    assert "Did you mean 'levle'?" in seen["problems"][-1]["message"]
    assert not seen["hasPreview"]
    assert "Did you mean 'levle'?" in text_of(seen["html"])


MISSING = TEACHER.replace("{{ subject }} for", "{{ topic }} for")


def test_a_missing_variable_is_declared_on_request(client: FlaskClient, personas: Path) -> None:
    (problem,) = look(client, MISSING)["problems"]
    assert "topic" == problem["declare"]
    page = client.post(PAGE, data={"text": MISSING, "etag": "x"}).text
    assert 'name="declare" value="topic"' in page
    page = client.post(PAGE, data={"text": MISSING, "etag": "x", "declare": "topic"}).text
    declared = MISSING.replace("variables:\n", 'variables:\n  topic: ""\n')
    assert sorted(declared.splitlines()) == sorted(area_of(page).removesuffix("\n").splitlines())
    assert "Nothing is wrong with this text." in text_of(page)
    assert '<p id="trouble" class="trouble" role="status"></p>' in page
    assert "data-dirty" in page
    assert TEACHER == (personas / "teacher.yaml").read_text()


def test_what_declares_nothing_leaves_the_text(client: FlaskClient) -> None:
    for text in (TEACHER, "name: [\n", "name: x\nsystem: y\nvariables: [subject]\n"):
        page = client.post(PAGE, data={"text": text, "etag": "x", "declare": "subject"}).text
        assert text == area_of(page)
    html = client.post(f"{PAGE}/form/look", data={"text": MISSING, "etag": "x"}).json["html"]
    assert "declare it under" in unescape(html)
    assert 'name="declare"' not in html


def test_a_template_leads_to_the_persona_that_would_have_to_declare_a_variable(
    client: FlaskClient, personas: Path
) -> None:
    text = (personas.parent / "templates/chat.jinja").read_text("utf-8")
    given = {"text": text + "{% message 'user' %}{{ mood }}{% endmessage %}"}
    given |= {"etag": "x", "persona": "teacher"}
    page = client.post("/library/templates/chat", data=given).text
    assert 'name="declare"' not in page
    way = re.findall(r'href="([^"]*declare=mood)"', page)[0]
    assert "/library/personas/teacher?declare=mood" == way
    shown = client.get(way).text
    assert re.search(r'^  mood: ""$', area_of(shown), re.MULTILINE)
    assert "data-dirty" in shown


def test_a_look_speaks_the_readers_language(client: FlaskClient) -> None:
    client.set_cookie("language", "zh")
    (problem,) = look(client, TEACHER + "modl: x\n")["problems"]
    assert "model" in problem["message"]
    assert re.search("[一-鿿]", problem["message"])


def test_each_piece_of_the_preview_leads_to_its_line(client: FlaskClient) -> None:
    html = look(client, TEACHER, input="Why?")["html"]
    assert re.search(r'<span data-line="7" data-literal>You are a patient teacher of </span>', html)
    assert re.search(
        r'from-variable" href="#text" data-line="7" data-literal[^>]*>mathematics<', html
    )
    assert 'data-line="14"' in html


def test_a_piece_of_another_file_leads_there(client: FlaskClient, personas: Path) -> None:
    (personas / "child.yaml").write_text("name: Child\nextends: teacher\n")
    html = look(client, "name: Child\nextends: teacher\n", "/library/personas/child")["html"]
    assert 'href="/library/personas/teacher?line=7"' in html


def test_what_was_said_before_is_previewed_and_what_is_left_out_is_told(
    client: FlaskClient,
) -> None:
    text = TEACHER + "context: {turns: 1}\n"
    html = look(
        client,
        text,
        input="And then?",
        **{"said-0-user": "One?", "said-0-assistant": "1.", "said-1-user": "Two?"},
    )["html"]
    words = text_of(html)
    assert (
        "1 earlier turn is not sent: the context policy leaves it out user One? assistant 1."
        in (words)
    )
    assert re.search(r"history .*Two\?.* And then\?", words)


def test_the_turns_of_a_session_can_be_what_was_said_before(client: FlaskClient) -> None:
    client.post("/sessions", data={"persona": "teacher", "input": "What is zero?"})
    page = client.get(PAGE).text
    found = re.search(r'<option value="([a-z0-9]{18})">What is zero\? \(1 turn\)', page)
    assert found
    assert "What is zero?" in text_of(look(client, TEACHER, session=found[1])["html"])


def test_so_can_those_of_any_other_session(client: FlaskClient, personas: Path) -> None:
    started = client.post("/sessions", data={"persona": "plain", "input": "What is zero?"})
    address = started.headers["Location"]
    (personas / "fresh.yaml").write_text(TEACHER)
    page = client.get("/library/personas/fresh").text
    offered = re.search(r'<optgroup label="with others">(.*?)</optgroup>', page, re.DOTALL)
    assert offered
    assert "What is zero?" in offered[1]
    for named in (address.rpartition("/")[2], f"http://localhost{address}", f"{address}/"):
        seen = look(client, TEACHER, "/library/personas/fresh", **{"other-session": named})
        assert "What is zero?" in text_of(seen["html"])
    unknown = look(client, TEACHER, "/library/personas/fresh", **{"other-session": "nothing"})
    assert "There is no session nothing" in text_of(unknown["html"])


def test_personas_of_one_name_are_told_apart_by_their_ids(
    client: FlaskClient, personas: Path
) -> None:
    (personas / "again.yaml").write_text(TEACHER)
    listed = text_of(client.get("/library").text)
    assert "Teacher again" in listed
    assert "Teacher teacher" in listed
    assert "Plain plain" not in listed


def test_variables_of_the_draft_are_asked_for(client: FlaskClient) -> None:
    text = TEACHER.replace("variables:\n", "variables:\n  mood: {required: true}\n")
    seen = look(client, text)
    assert ["mood", "subject", "level"] == seen["variables"]
    assert "'mood' is needed: please fill it in." in text_of(seen["html"])
    assert look(client, text, **{"v-mood": "calm"})["hasPreview"]
    assert look(client, text, **{"v-mood": "calm", "v-gone": "x"})["hasPreview"]


def test_a_template_is_looked_at_with_a_persona_of_choice(
    client: FlaskClient, personas: Path
) -> None:
    text = (personas.parent / "templates/chat.jinja").read_text()
    path = "/library/templates/chat"
    changed = text.replace("{{ system }}", "{{ system }} Be brief.")
    words = text_of(look(client, changed, path, persona="plain", input="x")["html"])
    assert "Answer briefly. Be brief." in words
    assert "3 personas would change with it: friend, plain, teacher" in words
    seen = look(client, "{% message 'system' %}{{ sytem }}{% endmessage %}", path)
    assert [1] == sorted({mark["line"] for mark in seen["problems"]})


def test_a_template_that_nobody_uses_is_looked_at_all_the_same(client: FlaskClient) -> None:
    text = '{% message "system" %}Only {{ persona.name }}.{% endmessage %}'
    seen = look(client, text, "/library/templates/fresh", persona="teacher")
    assert "Only Teacher ." in text_of(seen["html"])


def test_without_script_the_page_looks_at_what_is_written(client: FlaskClient) -> None:
    page = client.post(PAGE, data={"text": "name: x\r\n", "etag": "1", "input": "Hm"}).text
    assert "name: x\n" == area_of(page)
    assert "'system' is missing." in text_of(page)
    assert "1" == etag_on(page)


def test_hostile_text_is_inert_on_the_page(client: FlaskClient) -> None:
    page = client.post(PAGE, data={"text": HOSTILE, "input": HOSTILE, "message": HOSTILE}).text
    assert HOSTILE == area_of(page)
    assert "<script>alert" not in page
    assert "49" not in area_of(page)


def test_names_are_what_can_be_completed(client: FlaskClient) -> None:
    names = client.get("/library/names").get_json()
    assert ["friend", "plain", "teacher"] == names["personas"]
    assert "chat" in names["templates"]
    assert "temperature" in json.dumps(names["schema"])
    assert ["education", "life", "work"] == names["tags"]


def test_saving_writes_the_text_and_says_so(client: FlaskClient, personas: Path) -> None:
    etag = etag_on(client.get(PAGE).text)
    response = save(client, TEACHER.replace("\n", "\r\n") + "# more\r\n", etag)
    assert response.status_code == 200
    assert "Saved." in text_of(response.text)
    assert TEACHER + "# more\n" == (personas / "teacher.yaml").read_text()
    assert etag_of(TEACHER + "# more\n") == etag_on(response.text)


def test_saving_without_a_change_writes_nothing_and_says_so(
    client: FlaskClient, personas: Path
) -> None:
    path = personas / "teacher.yaml"
    before = path.stat()
    response = save(client, TEACHER, etag_of(TEACHER))
    assert "Nothing was changed, so nothing was written." in text_of(response.text)
    after = path.stat()
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)


def test_scripts_learn_what_was_saved(client: FlaskClient) -> None:
    changed = TEACHER.replace("name: Teacher", "name: Tutor")
    data = {"text": changed, "etag": etag_of(TEACHER)}
    facts = client.post(
        f"{PAGE}/save", data=data, headers={"Accept": "application/json"}
    ).get_json()
    assert {"etag": etag_of(changed), "isChanged": True, "name": "Tutor", "url": PAGE} == facts


def test_a_text_with_errors_is_saved_only_on_purpose(client: FlaskClient, personas: Path) -> None:
    path = personas / "teacher.yaml"
    refused = save(client, "name: [\n", etag_of(TEACHER))
    assert refused.status_code == 422
    assert "Save all the same" in text_of(refused.text)
    assert "name: [\n" == area_of(refused.text)
    assert TEACHER == path.read_text()
    assert "Saved." in text_of(save(client, "name: [\n", etag_of(TEACHER), insist="1").text)
    assert "name: [\n" == path.read_text()


def test_a_conflict_shows_both_versions_and_loses_neither(
    client: FlaskClient, personas: Path
) -> None:
    path = personas / "teacher.yaml"
    opened = etag_on(client.get(PAGE).text)
    theirs = TEACHER.replace("name: Teacher", "name: Tutor")
    path.write_text(theirs)
    mine = TEACHER + "# mine\n"
    response = save(client, mine, opened)
    assert response.status_code == 409
    assert theirs + "# mine\n" == area_of(response.text)
    assert mine == area_of(response.text, "mine")
    assert "your changes and theirs were in different places" in text_of(response.text)
    assert theirs == path.read_text()
    etag = etag_on(response.text)
    assert "Saved." in text_of(save(client, area_of(response.text), etag).text)
    assert theirs + "# mine\n" == path.read_text()


def test_after_a_conflict_ones_own_text_can_be_saved_as_it_was(
    client: FlaskClient, personas: Path
) -> None:
    opened = etag_on(client.get(PAGE).text)
    (personas / "teacher.yaml").write_text(TEACHER.replace("Teacher", "Tutor"))
    mine = TEACHER.replace("name: Teacher", "name: Master")
    conflict = save(client, mine, opened)
    assert "In 1 place both changed the same lines" in text_of(conflict.text)
    merged, etag = area_of(conflict.text), etag_on(conflict.text)
    assert save(client, merged, etag, take="mine", mine=mine).status_code == 200
    assert mine == (personas / "teacher.yaml").read_text()


def test_marks_of_a_conflict_are_in_the_readers_language_and_known_in_any(
    client: FlaskClient, personas: Path
) -> None:
    opened = etag_on(client.get(PAGE).text)
    path = personas / "teacher.yaml"
    path.write_text(TEACHER.replace("Teacher", "Tutor"))
    client.set_cookie("language", "zh")
    conflict = save(client, TEACHER.replace("name: Teacher", "name: 老师"), opened)
    shown, etag = area_of(conflict.text), etag_on(conflict.text)
    marked = "<<<<<<< 你的文字\nname: 老师\n=======\nname: Tutor\n>>>>>>> 磁盘上\n"
    assert marked in shown
    # Left in the text they are told of, in whatever language the page is by then, and never merged once more.
    client.set_cookie("language", "en")
    refused = save(client, shown.replace("\n", "\r\n"), etag)
    assert "A mark of a merge is left here" in text_of(refused.text)
    assert "<<<<<<< your text\nname: 老师\n=======" in area_of(refused.text).replace("\r", "")
    path.write_text(TEACHER.replace("Teacher", "Coach"))
    again = area_of(save(client, shown, etag).text)
    assert "<<<<<<< your text\nname: 老师\n=======\nname: Coach\n>>>>>>> on disk\n" in again
    assert 1 == again.count("=======")


def test_scripts_learn_of_a_conflict(client: FlaskClient, personas: Path) -> None:
    (personas / "teacher.yaml").write_text(TEACHER + "# theirs\n")
    data = {"text": TEACHER + "# mine\n", "etag": etag_of(TEACHER)}
    response = client.post(f"{PAGE}/save", data=data, headers={"Accept": "application/json"})
    assert_error(response, 409, "changed_meanwhile")


def test_a_file_that_was_deleted_meanwhile_can_be_saved_anew(
    client: FlaskClient, personas: Path
) -> None:
    (personas / "teacher.yaml").unlink()
    refused = save(client, TEACHER, etag_of(TEACHER))
    assert refused.status_code == 404
    assert TEACHER == area_of(refused.text)
    assert "Saved." in text_of(save(client, TEACHER, etag_of(TEACHER), anew="1").text)
    assert TEACHER == (personas / "teacher.yaml").read_text()


@pytest.mark.parametrize("path", ["/library", "/library/", PAGE, f"{PAGE}/history"])
def test_masthead_shows_in_which_part_one_is(client: FlaskClient, path: str) -> None:
    masthead = client.get(path).text.partition("<main")[0]
    assert ["Library"] == re.findall(r'aria-current="\w+">([^<]*)<', masthead)


def test_what_is_to_be_a_new_file_stays_one_when_it_is_saved_with_its_errors(
    client: FlaskClient, personas: Path
) -> None:
    (personas / "teacher.yaml").unlink()
    faulty = save(client, "name: x\n", etag_of(TEACHER), anew="1")
    assert faulty.status_code == 422
    assert "" == etag_on(faulty.text)
    assert "Saved." in text_of(save(client, "name: x\n", "", insist="1").text)
    assert "name: x\n" == (personas / "teacher.yaml").read_text()


def test_a_new_file_is_there_once_it_is_saved(client: FlaskClient, personas: Path) -> None:
    begun = client.get(
        "/library/new", query_string={"kind": "personas", "id": "cook", "title": "Cook"}
    )
    page = client.get(begun.location).text
    assert "name: Cook" in area_of(page)
    assert "not saved yet" in text_of(page)
    assert not (personas / "cook.yaml").exists()
    assert "Saved." in text_of(save(client, area_of(page), "", "/library/personas/cook").text)
    assert (personas / "cook.yaml").exists()
    again = client.get(begun.location)
    assert "/library/personas/cook/form" == again.location


def test_who_gives_nothing_to_begin_with_is_asked_for_it(client: FlaskClient) -> None:
    address, _, anchor = client.get("/library/new").location.partition("#")
    assert f'<h2 id="{anchor}">Begin a new file</h2>' in client.get(address).text
    begun = client.get("/library/new?title=Chess+coach").location
    assert "/library/personas/chess-coach/form?new=&title=Chess+coach" == begun
    assert client.get("/library/new?kind=things&title=Chess+coach").status_code == 404


@pytest.mark.parametrize("name", ["Upper", "a b", "../x", "con"])
def test_an_id_that_makes_no_file_name_is_refused(client: FlaskClient, name: str) -> None:
    response = client.get("/library/new", query_string={"kind": "personas", "id": name})
    assert response.status_code == 400
    words = "keeps the name" if name == "con" else "makes no id"
    assert words in unescape(response.text)


def test_a_file_is_duplicated_and_renamed(client: FlaskClient, personas: Path) -> None:
    assert client.post(f"{PAGE}/duplicate", data={"id": "tutor"}).location == (
        "/library/personas/tutor"
    )
    assert TEACHER == (personas / "tutor.yaml").read_text()
    taken = client.post(f"{PAGE}/rename", data={"id": "tutor"})
    assert taken.status_code == 409
    assert "tutor" in text_of(taken.text)
    client.post(f"{PAGE}/rename", data={"id": "master"})
    assert {"friend", "master", "plain", "tutor"} == {p.stem for p in personas.glob("*.yaml")}


def test_renaming_can_carry_along_what_names_the_file(client: FlaskClient, personas: Path) -> None:
    (personas / "child.yaml").write_text("name: Child\nextends: teacher  # base\n")
    refused = client.post(f"{PAGE}/rename", data={"id": "master"})
    assert refused.status_code == 409
    assert "Change it in those files too" in text_of(refused.text)
    assert client.post(f"{PAGE}/rename", data={"id": "master", "carry": "1"}).status_code == 303
    assert "name: Child\nextends: master  # base\n" == (personas / "child.yaml").read_text()


def test_what_is_deleted_can_be_had_back(client: FlaskClient, personas: Path) -> None:
    (personas / "child.yaml").write_text("name: Child\nextends: teacher\n")
    refused = client.post(f"{PAGE}/delete")
    assert refused.status_code == 409
    assert "Delete all the same" in text_of(refused.text)
    gone = client.post(f"{PAGE}/delete", data={"insist": "1"})
    assert not (personas / "teacher.yaml").exists()
    page = client.get(gone.location).text
    found = re.search(r'action="(/library/trash/[^"]+/restore)"', page)
    assert found
    assert PAGE == client.post(found[1]).location
    assert TEACHER == (personas / "teacher.yaml").read_text()


@pytest.mark.parametrize(
    ("path", "target"),
    [
        (f"{PAGE}/rename", PAGE),
        (f"{PAGE}/duplicate", PAGE),
        (f"{PAGE}/delete", PAGE),
        ("/library/trash/x/restore", "/library/"),
    ],
)
def test_a_reload_after_what_failed_leads_back(client: FlaskClient, path: str, target: str) -> None:
    response = client.get(path)
    assert response.status_code == 303
    assert target == response.location


def test_unknown_files_and_kinds_are_not_found(client: FlaskClient) -> None:
    for path in ("/library/personas/none", "/library/things/teacher", "/library/templates/none"):
        assert client.get(path).status_code == 404


def test_a_persona_leads_to_its_text(client: FlaskClient, personas: Path) -> None:
    (personas / "broken.yaml").write_text("name: [\n")
    assert f'href="{PAGE}"' in client.get("/personas/teacher").text
    broken = eventually(lambda: client.get("/personas/broken").text, "needs mending")
    assert 'href="/library/personas/broken"' in broken
