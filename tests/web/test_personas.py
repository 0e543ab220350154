"""The gallery, the page of a persona, and the preview of what it sends."""

from __future__ import annotations

import json
import re
import shlex
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from rolebook.core.source import Author
from rolebook.web.app import create_app
from rolebook.web.gallery import PAGE
from rolebook.wiring import Rolebook
from tests.conftest import MakeRolebook
from tests.web.checks import assert_error, eventually

EVERY_VARIABLE = """\
name: Everything
system: "{{ a }} {{ b }} {{ c }} {{ d }} {{ e }} {{ f }} {{ g }} {{ h }}"
language: en
variables:
  a: {type: text, required: true, description: A word}
  b: {type: long_text, default: "two\\nlines"}
  c: {type: number, default: 1.5}
  d: {type: integer, default: 3}
  e: {type: boolean, default: true}
  f: {type: choice, choices: [x, y]}
  g: {type: choice, choices: [one, two, three, four, five, six]}
  h: {type: date, default: 2026-11-20}
sampling: {temperature: 0.3, stop: ["END", "\\nSTOP"]}
"""
HOSTILE = '"><img src=x onerror=alert(1)>{{ 7919*7907 }}'


def text_of(html: str) -> str:
    """The words of a page."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


class Inputs(HTMLParser):
    """The named inputs of a page, with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {"input", "textarea", "select"}:
            self.found.append((tag, dict(attrs)))

    def of(self, name: str) -> list[tuple[str, dict[str, str | None]]]:
        return [
            (tag, attributes) for tag, attributes in self.found if attributes.get("name") == name
        ]


def cards(page: str) -> list[str]:
    """The ids of the personas that a gallery shows, in order."""
    return re.findall(r'<a href="/personas/([^"]+)">', page)


def test_the_gallery_shows_every_persona_the_readers_language_first(client: FlaskClient) -> None:
    assert cards(client.get("/").text) == ["plain", "teacher", "friend"]
    chinese = client.get("/", headers={"Accept-Language": "zh"}).text
    assert cards(chinese) == ["friend", "plain", "teacher"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q=teach", ["teacher"]),
        ("q=IDEA+one", ["teacher"]),
        ("q=说话", ["friend"]),
        ("q=life", ["plain", "friend"]),
        ("tag=life", ["plain", "friend"]),
        ("tag=life&language=zh", ["friend"]),
        ("language=en", ["plain", "teacher"]),
        ("tag=nothing", []),
        ("q=a+chess+coach", []),
        ("page=7", []),
        ("page=x&q=", ["plain", "teacher", "friend"]),
    ],
)
def test_the_gallery_is_searched_and_filtered(
    client: FlaskClient, query: str, found: list[str]
) -> None:
    assert cards(client.get(f"/?{query}").text) == found


def test_a_name_that_matches_comes_before_a_description(
    library_dir: Path, client: FlaskClient
) -> None:
    (library_dir / "personas/aide.yaml").write_text(
        "name: Aide\nsystem: x\nlanguage: en\ndescription: Helps a teacher.\n"
    )
    assert cards(client.get("/?q=teacher").text) == ["teacher", "aide"]


@pytest.mark.parametrize("query", ["teacher", "Teacher", "TEACHER"])
def test_who_is_called_just_so_comes_first(
    library_dir: Path, client: FlaskClient, query: str
) -> None:
    (library_dir / "personas/another.yaml").write_text(
        "name: Another teacher\nsystem: x\nlanguage: en\n"
    )
    assert cards(client.get(f"/?q={query}").text) == ["teacher", "another"]


def test_finding_nothing_offers_to_start_with_these_words(client: FlaskClient) -> None:
    page = client.get("/?q=a+patient+chess+coach").text
    assert ">a patient chess coach</textarea>" in page
    assert "these words become a role of your own" in page
    assert 'formaction="/sessions"' in page
    assert "Show all 3 personas" in page


def test_an_empty_library_says_where_personas_belong(make_rolebook: MakeRolebook) -> None:
    page = create_app(make_rolebook(personas="nowhere")).test_client().get("/").text
    assert "There are no personas yet." in page
    assert "<code>nowhere</code>" in page
    assert "It cannot be read" in page


def test_a_large_gallery_has_pages(library_dir: Path, client: FlaskClient) -> None:
    for number in range(PAGE + 10):
        (library_dir / f"personas/p{number:03}.yaml").write_text(
            f"name: Number {number:03}\nsystem: x\nlanguage: en\ntags: [many]\n"
        )
    first = client.get("/?tag=many").text
    assert len(cards(first)) == PAGE
    following = re.search(r'rel="next" href="([^"]+)"', first)
    assert following
    second = client.get(unescape(following[1])).text
    assert len(cards(second)) == 10
    assert 'rel="prev"' in second
    assert 'rel="next"' not in second


def test_a_persona_leads_to_its_text_and_to_its_form(client: FlaskClient) -> None:
    page = client.get("/personas/teacher").text
    ways = {
        "Edit as a form": "/library/personas/teacher/form",
        "Edit as text": "/library/personas/teacher",
    }
    for way, address in ways.items():
        assert f'href="{address}">{way}</a>' in page
        assert 200 == client.get(address).status_code


def test_a_broken_file_is_shown_with_place_and_reason(
    library_dir: Path, client: FlaskClient
) -> None:
    (library_dir / "personas/new.yaml").write_text("name: New\n")
    page = client.get("/").text
    assert "personas/new.yaml" in page
    assert "'system' is missing." in unescape(page)
    assert "not in use until" in page
    assert cards(page) == ["plain", "teacher", "friend"]
    broken = client.get("/personas/new")
    assert "'system' is missing." in unescape(broken.text)


def test_a_file_that_breaks_stays_in_use_and_says_so(
    library_dir: Path, client: FlaskClient
) -> None:
    client.get("/")
    (library_dir / "personas/teacher.yaml").write_text("name: [\n")
    page = eventually(lambda: client.get("/").text, "Its last good version is still in use.")
    assert "teacher" in cards(page)
    one = client.get("/personas/teacher")
    assert one.status_code == 200
    assert "personas/teacher.yaml is broken now" in one.text
    assert 'name="v-subject"' in one.text


def test_a_changed_file_is_live_at_the_next_look(library_dir: Path, client: FlaskClient) -> None:
    client.get("/personas/plain")
    (library_dir / "personas/plain.yaml").write_text("name: Plain\nsystem: Answer at length.\n")
    page = eventually(lambda: client.get("/personas/plain").text, "Answer at length.")
    assert "Answer briefly." not in page


def test_hostile_names_are_inert(library_dir: Path, client: FlaskClient) -> None:
    quoted = "'" + HOSTILE + "'"
    (library_dir / "personas/hostile.yaml").write_text(
        f"name: {quoted}\ndescription: {quoted}\ntags: [{quoted}]\navatar: {quoted}\nlanguage: {quoted}\n"
        f"model: {quoted}\nsystem: ok\nstarters: [{quoted}]\n"
        f"variables:\n  v: {{default: {quoted}, description: {quoted}}}\n"
        f"  w: {{type: choice, choices: [{quoted}, y]}}\nrequest: {{user: {quoted}}}\n"
    )
    for path in (
        "/",
        "/personas/hostile",
        f"/?q={HOSTILE}&tag={HOSTILE}",
        f"/personas/hostile?input={HOSTILE}&model={HOSTILE}",
    ):
        page = client.get(path).text
        assert "<img src=x" not in page
        assert HOSTILE in unescape(page)
        # A product that no id and no time happens to hold.
        assert "62615533" not in text_of(page)


def test_rehearsal_says_so_and_how_to_connect_a_model(
    make_rolebook: MakeRolebook, client: FlaskClient
) -> None:
    rehearsing = create_app(make_rolebook()).test_client().get("/").text
    assert "Rehearsal" in rehearsing
    assert 'href="/status#connect"' in rehearsing
    assert "Rehearsal" not in client.get("/").text


def test_each_variable_has_a_fitting_input(library_dir: Path, client: FlaskClient) -> None:
    (library_dir / "personas/all.yaml").write_text(EVERY_VARIABLE)
    inputs = Inputs(client.get("/personas/all").text)

    def only(name: str) -> tuple[str, str | None, str | None]:
        ((tag, attributes),) = inputs.of(name)
        return tag, attributes.get("type"), attributes.get("value")

    assert only("v-a") == ("input", "text", "")
    assert "required" in inputs.of("v-a")[0][1]
    assert inputs.of("v-b")[0][0] == "textarea"
    assert only("v-c") == ("input", "number", "1.5")
    assert only("v-d") == ("input", "number", "3")
    assert [(a["type"], "checked" in a) for _, a in inputs.of("v-e")] == [
        ("hidden", False),
        ("checkbox", True),
    ]
    assert [(a["value"], "checked" in a) for _, a in inputs.of("v-f")] == [
        ("x", True),
        ("y", False),
    ]
    assert inputs.of("v-g")[0][0] == "select"
    assert inputs.of("s-stop")[0][1]["placeholder"] == "END\n\\nSTOP"
    assert only("v-h") == ("input", "date", "2026-11-20")


def test_sampling_shows_what_the_file_says_and_explains_each(client: FlaskClient) -> None:
    page = client.get("/personas/teacher").text
    ((_, temperature),) = Inputs(page).of("s-temperature")
    assert (temperature["placeholder"], temperature["value"]) == ("0.7", "")
    assert (temperature["min"], temperature["max"]) == ("0", "2")
    assert "How freely it chooses its words" in page
    assert not Inputs(page).of("s-echo")


def test_base_models_have_their_own_parameters(library_dir: Path, client: FlaskClient) -> None:
    (library_dir / "personas/base.yaml").write_text(
        "name: Base\nsystem: x\nendpoint: completions\n"
    )
    page = client.get("/personas/base").text
    assert Inputs(page).of("s-echo")
    assert not Inputs(page).of("s-reasoning_effort")
    assert '<span class="role">prompt</span>' in page


def test_the_preview_shows_every_message_with_its_origin(client: FlaskClient) -> None:
    page = client.get("/personas/teacher?input=Why%3F&v-subject=physics").text
    preview = page[page.index('id="preview"') :]
    roles = re.findall(r'<span class="role">(\w+)</span>', preview)
    assert roles[:3] == ["system", "user", "assistant"]
    assert roles[-1] == "user"
    assert '<span class="from from-variable" title="variable: subject">physics</span>' in preview
    assert '<span class="from from-variable" title="variable: level">beginner</span>' in preview
    words = text_of(preview)
    assert "user example What is a fraction?" in words
    assert "user your input Why?" in words
    assert "Marked: variable" in words
    assert "temperature 0.7" in words
    assert "max_tokens 600" in words
    assert "(estimate)" in words
    assert "not used yet" in words


def test_the_greeting_follows_the_variables(client: FlaskClient) -> None:
    assert (
        "What about physics shall we look at?"
        in client.get("/personas/teacher?v-subject=physics").text
    )


def test_a_known_vocabulary_is_counted_exactly(make_rolebook: MakeRolebook) -> None:
    client = create_app(make_rolebook()).test_client()
    assert "(estimate)" not in client.get("/personas/plain?model=gpt-4o-mini").text
    assert "(estimate)" in client.get("/personas/plain?model=llama3").text


def test_a_preview_is_live_for_scripts(client: FlaskClient) -> None:
    fields = {"persona": "teacher", "v-subject": "art", "input": "Hi", "s-temperature": "1.5"}
    response = client.post("/personas/teacher/preview", json=fields)
    assert response.mimetype == "text/html"
    assert "<html" not in response.text
    words = text_of(response.text)
    assert "teacher of art for a beginner" in words
    assert "temperature 1.5" in words


def test_a_preview_works_without_script_and_keeps_what_was_typed(client: FlaskClient) -> None:
    fields = {"v-subject": "art\r\nand more", "v-level": "expert", "input": "a\r\nb", "model": "m"}
    page = client.post("/personas/teacher/preview", data=fields).text
    assert "<html" in page
    inputs = Inputs(page)
    assert ">\na\nb</textarea>" in page
    assert inputs.of("model")[0][1]["value"] == "m"
    assert [a["value"] for _, a in inputs.of("v-level") if "checked" in a] == ["expert"]
    assert "\r" not in page


def test_a_starter_fills_the_input_without_script(client: FlaskClient) -> None:
    body = "v-subject=art&input=&input=Why+is+the+sky+blue%3F"
    page = client.post(
        "/personas/teacher/preview", data=body, content_type="application/x-www-form-urlencoded"
    ).text
    assert ">\nWhy is the sky blue?</textarea>" in page


@pytest.mark.parametrize(
    ("fields", "name", "reason"),
    [
        ({"v-level": "guru"}, "v-level", "must be one of"),
        ({"s-temperature": "hot"}, "s-temperature", "a number from 0 to 2"),
        ({"s-seed": "1.5"}, "s-seed", "a whole number"),
        ({"more": "user"}, "more", "name=value"),
        ({"more": "api_key=sk-1"}, "more", "cannot be set"),
    ],
)
def test_a_mistake_is_told_at_its_field(
    client: FlaskClient, fields: dict[str, str], name: str, reason: str
) -> None:
    page = client.post("/personas/teacher/preview", data={**fields, "input": "kept"}).text
    error = re.search(f'<p class="error" id="{name}-error">([^<]+)</p>', page)
    assert error, text_of(page)
    assert reason in unescape(error[1])
    assert 'aria-invalid="true"' in page
    assert ">\nkept</textarea>" in page


def test_a_needed_variable_is_no_error_before_anything_was_sent(
    library_dir: Path, client: FlaskClient
) -> None:
    (library_dir / "personas/all.yaml").write_text(EVERY_VARIABLE)
    page = client.get("/personas/all").text
    assert "aria-invalid" not in page
    assert "'a' is needed" in unescape(page)
    assert client.post("/personas/all/preview", data={}).text.count("aria-invalid") == 1


def test_a_template_error_is_shown_with_its_place(library_dir: Path, client: FlaskClient) -> None:
    (library_dir / "personas/bad.yaml").write_text(
        "name: Bad\nsystem: |\n  Hello\n  {{ nobody }}\n"
    )
    page = unescape(client.get("/personas/bad").text)
    assert "bad.yaml:4" in page
    assert "nobody" in page


def test_a_preview_changes_nothing_and_calls_nobody(client: FlaskClient) -> None:
    client.post("/personas/teacher/preview", json={"input": "x"})
    book = client.application.extensions["rolebook"]
    status = book.log.database_status()
    assert (status.sessions, status.turns) == (0, 0)


def test_a_preview_that_is_loaded_again_leads_back_to_the_form(client: FlaskClient) -> None:
    response = client.get("/personas/teacher/preview")
    assert (response.status_code, response.headers["Location"]) == (303, "/personas/teacher")


def test_the_preview_of_a_broken_persona_is_an_error(
    library_dir: Path, client: FlaskClient
) -> None:
    (library_dir / "personas/new.yaml").write_text("name: New\n")
    message = assert_error(client.post("/personas/new/preview", json={}), 422, "invalid_file")
    assert "personas/new.yaml" in message


def test_several_upstreams_can_be_chosen_from(
    library_dir: Path, make_rolebook: MakeRolebook
) -> None:
    (library_dir / "rolebook.yaml").write_text(
        "upstreams:\n  here: {base_url: 'http://127.0.0.1:9/v1', model: tiny}\n"
    )
    client = create_app(make_rolebook()).test_client()
    page = client.get("/personas/teacher").text
    assert Inputs(page).of("upstream")
    assert "model tiny" in text_of(page)
    chosen = client.get("/personas/teacher?upstream=rehearsal").text
    assert "upstream rehearsal model rehearsal" in text_of(chosen)


def test_inside_a_message_all_that_stands_out_is_marked(
    library_dir: Path, client: FlaskClient
) -> None:
    (library_dir / "templates/mixed.jinja").write_text(
        '{% message "system" %}{{ system }}\n\nRules:{% for e in examples %}\n{{ e.user }}{% endfor %}{% endmessage %}'
        '{% message "user" %}Note. {{ input }} {{ v | replace("b", "c") }}{% endmessage %}'
    )
    (library_dir / "personas/mixed.yaml").write_text(
        "name: Mixed\nsystem: Be {{ v }}.\ntemplate: mixed\nvariables: {v: bold}\n"
        "examples: [{user: Shown, assistant: x}]\n"
    )
    page = client.get("/personas/mixed?input=Hi").text
    marked = re.findall(r'<span class="from from-(\w+)" title="[^"]+">([^<]+)</span>', page)
    assert marked == [
        ("variable", "bold"),
        ("template", "\n\nRules:"),
        ("example", "Shown"),
        ("template", "Note. "),
        ("computed", "cold"),
    ]
    assert "Marked: variable example prompt template computed" in text_of(page)
    assert "user your input Note. Hi cold" in text_of(page)


def test_a_start_that_cannot_be_comes_back_with_all_that_was_typed(client: FlaskClient) -> None:
    fields = {
        "persona": "teacher",
        "v-subject": "art",
        "v-level": "guru",
        "input": "Hi",
        "s-seed": "7",
    }
    response = client.post("/sessions", data=fields)
    assert response.status_code == 400
    assert 'id="v-level-error"' in response.text
    inputs = Inputs(response.text)
    assert inputs.of("v-subject")[0][1]["value"] == "art"
    assert inputs.of("s-seed")[0][1]["value"] == "7"
    assert ">\nHi</textarea>" in response.text


def test_a_role_of_ones_own_is_started_without_script(client: FlaskClient) -> None:
    empty = client.post("/sessions", data={"q": " "})
    assert empty.status_code == 400
    assert "Please say what the role should be." in empty.text
    started = client.post("/sessions", data={"q": "You are a {{ patient }} coach."})
    assert started.status_code == 303
    assert started.headers["Location"].startswith("/sessions/")


def test_line_for_a_shell_is_one_that_the_gateway_takes(
    client: FlaskClient, library_dir: Path
) -> None:
    text = "name: O'B\nsystem: Hi {{ who }}\nvariables: {who: it's me}\nstarters: [What's up?]\n"
    (library_dir / "personas" / "ob.yaml").write_text(text, "utf-8")
    page = client.get("/personas/ob").text
    line = unescape(page.partition('<code id="curl">')[2].partition("</code>")[0])
    command, address, *_, body = shlex.split(line)
    assert ("curl", "http://localhost/v1/chat/completions") == (command, address)
    answer = client.post("/v1/chat/completions", json=json.loads(body)).get_json()
    assert "Echo: What's up?" == answer["choices"][0]["message"]["content"]


def test_page_of_a_label_is_for_talking_and_its_program_asks_the_label(
    client: FlaskClient, rolebook: Rolebook
) -> None:
    rolebook.edits.set_label("plain", "production", "", author=Author("browser"))
    page = client.get("/personas/plain@production").text
    assert "&#34;model&#34;: &#34;plain@production&#34;" in page
    assert "/library/personas/plain" not in page
    assert "/library/personas/plain" in client.get("/personas/plain").text


def test_every_text_that_was_shown_is_kept_however_soon_the_next_one_comes(
    client: FlaskClient, rolebook: Rolebook, library_dir: Path
) -> None:
    shown = []
    for number in range(6):
        text = f"name: Plain\nsystem: Answer in {number} words.\n"
        (library_dir / "personas" / "plain.yaml").write_text(text)
        if number % 2:
            shown.append(client.get("/api/v1/personas/plain").get_json()["revision"])
        else:
            page = client.get("/personas/plain").text
            shown.append(re.findall(r'<span title="([0-9a-f]+)">', page)[0])
    assert 6 == len(set(shown))
    for number, revision in enumerate(shown):
        kept = rolebook.find_persona(f"plain@{revision}").persona
        assert f"Answer in {number} words." == kept.system
