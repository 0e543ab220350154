"""What holds for every operation: one shape of errors, no room for what nobody knows, a document that says all."""

from __future__ import annotations

import re

import pytest
from flask import Flask
from flask.testing import FlaskClient

from rolebook.web.api.routes import SECTIONS
from rolebook.wiring import Rolebook
from tests.conftest import ROOT
from tests.web.accounts import People
from tests.web.api.calls import PREFIX, call, error_of
from tests.web.checks import assert_error

_ADDRESS = re.compile(r"`(/[a-z/-]+)`")
ASK = "/personas/teacher/render"


@pytest.mark.parametrize(
    ("body", "key", "said"),
    [
        ({"inptu": "x"}, "inptu", "Did you mean 'input'?"),
        ({"nonsense": "x"}, "nonsense", "There are: variables,"),
        ({"input": 7}, "input", "must be text"),
        ({"input": None}, "input", "must be text"),
        ({"variables": []}, "variables", "must be an object"),
        ({"variables": {"subject": []}}, "variables.subject", "must be"),
        ({"earlier": [{"user": True}]}, "earlier[0].user", "must be text"),
        ({"earlier": [{}] * 101}, "earlier", "at most 100"),
        ([], "body", "must be an object"),
        ("x", "body", "must be an object"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_body_that_is_not_as_described_is_told_by_its_field(
    client: FlaskClient, body: object, key: str, said: str
) -> None:
    response = client.post(PREFIX + ASK, json=body)
    assert said in assert_error(response, 400, "invalid_request", param=key)
    (problem,) = response.get_json()["error"]["problems"]
    assert (key, "", 0) == (problem["key"], problem["file"], problem["line"])


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/comparisons?reuse=true"), ("GET", "/caller?full=1"), ("POST", f"{ASK}?model=x")],
)
def test_what_stands_behind_an_address_that_takes_nothing_there_is_refused(
    client: FlaskClient, method: str, path: str
) -> None:
    """Else what was planned with answers that are in the log already, by ``?reuse=true``, would be paid once more."""
    name = re.findall(r"[?](\w+)=", path)[0]
    response = client.open(PREFIX + path, method=method, json={"input": "x"})
    assert "There are: –." in assert_error(response, 400, "invalid_request", param=name)


def test_all_that_is_wrong_is_told_at_once_and_in_chinese(client: FlaskClient) -> None:
    response = client.post(
        PREFIX + ASK, json={"input": 1, "modle": "x"}, headers={"Accept-Language": "zh"}
    )
    said = [problem["message"] for problem in response.get_json()["error"]["problems"]]
    assert 2 == len(said)
    assert all(re.search("[\u4e00-\u9fff]", message) for message in said)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("{", 400),
        (" ", 400),
        ("null", 400),
        ("[" * 100_000, 400),
        ('{"input": NaN}', 400),
        ('{"input": "\\ud800"}', 400),
        ('{"variables": {"subject": ' + "9" * 5000 + "}}", 400),
        ('{"variables": {"subject": "\\u0000"}, "input": "\\u0000"}', 200),
        ('{"input": "' + "x" * 1_100_000 + '"}', 413),
        ('{"earlier": [' + "1," * 60_000 + "1]}", 413),
        (b"\xff\xfe", 400),
    ],
    ids=lambda value: str(value)[:30],
)
def test_monstrous_json_does_no_harm(client: FlaskClient, body: str | bytes, status: int) -> None:
    response = client.post(PREFIX + ASK, data=body, content_type="application/json")
    assert (status, "application/json") == (response.status_code, response.mimetype)


@pytest.mark.parametrize("kind", ["application/json", "text/plain", None])
def test_body_in_which_nothing_is_needed_may_be_left_out(
    client: FlaskClient, kind: str | None
) -> None:
    """Many clients call every body JSON, also one that is not there."""
    left_out = client.post(PREFIX + ASK, data=b"", content_type=kind)
    assert (200, client.post(PREFIX + ASK, json={}).get_json()) == (
        left_out.status_code,
        left_out.get_json(),
    )
    operation = call(client, "GET", "/openapi.json")["paths"][
        f"{PREFIX}/personas/{{reference}}/render"
    ]
    assert operation["post"]["requestBody"]["required"] is False
    needed = client.post(f"{PREFIX}/files/personas", data=b"", content_type=kind)
    assert_error(needed, 400 if kind == "application/json" else 415, "invalid_request")


def test_json_must_be_called_so(client: FlaskClient) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", None):
        response = client.post(PREFIX + ASK, data='{"input": "x"}', content_type=kind)
        assert_error(response, 415, "invalid_request")


@pytest.mark.parametrize(
    ("query", "key"),
    [
        ("limit=0", "limit"),
        ("limit=1e1", "limit"),
        ("limit=", "limit"),
        ("limit=99999999999999999999", "limit"),
        ("is_starred=yes", "is_starred"),
        ("status=done", "status"),
        ("serach=x", "serach"),
        ("search=x&search=y", "search"),
    ],
)
def test_address_that_is_not_as_described_is_refused(
    client: FlaskClient, query: str, key: str
) -> None:
    assert_error(client.get(f"{PREFIX}/sessions?{query}"), 400, "invalid_request", param=key)


def test_request_of_the_right_form_that_cannot_be_done_is_422(client: FlaskClient) -> None:
    assert (
        "invalid_input" == error_of(client, "POST", ASK, 422, parameters={"api_key": "x"})["code"]
    )
    assert 422 == client.get(f"{PREFIX}/sessions?since=yesterday").status_code


def test_nothing_below_the_address_is_html(client: FlaskClient) -> None:
    for path, status in (("", 404), ("/nothing", 404), ("/sessions/x", 404), ("/%00", 404)):
        response = client.get(PREFIX + path, headers={"Accept": "text/html"})
        assert (status, "application/json") == (response.status_code, response.mimetype), path
    response = client.put(f"{PREFIX}/sessions", headers={"Accept": "text/html"})
    assert_error(response, 405, "invalid_request")
    assert {"GET", "HEAD", "OPTIONS", "POST"} == set(response.headers["Allow"].split(", "))


def test_document_has_every_operation(app: Flask, client: FlaskClient) -> None:
    document = call(client, "GET", "/openapi.json")
    described = {
        (method.upper(), re.sub(r"\{(\w+)\}", r"<\1>", path)): operation
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    served = {
        (method, rule.rule): rule.endpoint
        for rule in app.url_map.iter_rules()
        if rule.endpoint.startswith("api.") and rule.endpoint != "api.show_document"
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert served.keys() == described.keys()
    names = [operation["operationId"] for operation in described.values()]
    assert len(set(names)) == len(names) == sum(len(s.operations) for s in SECTIONS)
    for operation in described.values():
        assert operation["summary"].endswith("."), operation["operationId"]
    schemas = document["components"]["schemas"]
    assert [] == [name for name in schemas if "__" in name], "two shapes of one name"


def test_nothing_of_a_request_is_read_that_its_type_does_not_name() -> None:
    """What an operation takes by another way, the document would not say."""
    asking = re.compile(r"request\.(headers|args|form|values|json|get_json|data|get_data|cookies)")
    found = {
        file.name
        for file in (ROOT / "rolebook" / "web" / "api").glob("*.py")
        if asking.search(file.read_text("utf-8"))
    }
    assert {"reading.py"} == found


def test_document_names_the_headers_of_operations(client: FlaskClient) -> None:
    paths = call(client, "GET", "/openapi.json")["paths"]
    headers = {
        (operation["operationId"], parameter["name"])
        for path in paths.values()
        for operation in path.values()
        for parameter in operation.get("parameters", ())
        if parameter["in"] == "header"
    }
    known = {("create_comparison", "Idempotency-Key"), ("follow_comparison", "Last-Event-ID")}
    assert known == headers


def test_page_of_the_documentation_names_addresses_that_there_are(client: FlaskClient) -> None:
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    named = {
        name
        for line in page.split("\n")
        if line.startswith("| `/")
        for name in _ADDRESS.findall(line)
    }
    paths = call(client, "GET", "/openapi.json")["paths"]
    known = {"/" + path.removeprefix(PREFIX + "/").partition("/")[0] for path in paths}
    assert known - {"/persona-schema", "/local-servers"} == {f"/{n.split('/')[1]}" for n in named}


def test_rights_scopes_and_budgets_hold_for_the_api(app: Flask, rolebook: Rolebook) -> None:
    people = People(app, rolebook)
    ada, bo = people.add("Ada").browser, people.add("Bo", "author").browser
    assert_error(app.test_client().get(f"{PREFIX}/personas"), 401, "invalid_api_key")
    by_nobody = {"limits": None, "today": None, "this_month": None}
    assert {"user": "Ada", "role": "reader", "key": None, "scope": ["*"], **by_nobody} == call(
        ada, "GET", "/caller"
    )
    assert "forbidden" == error_of(ada, "GET", "/files", 403)["code"]
    assert call(bo, "GET", "/files")["files"]
    confined = people.program("Bo", "teacher")
    assert ["teacher"] == [p["id"] for p in call(confined, "GET", "/personas")["personas"]]
    assert 404 == confined.get(f"{PREFIX}/personas/plain").status_code
    assert 404 == confined.post(f"{PREFIX}/personas/plain/render", json={}).status_code
    assert 404 == confined.post(f"{PREFIX}/sessions", json={"persona": "plain"}).status_code
    assert "forbidden" == error_of(confined, "GET", "/files", 403)["code"]
    session_id = call(confined, "POST", "/sessions", 201, persona="teacher")["id"]
    call(confined, "POST", f"/sessions/{session_id}/turns", input="Why?")
    assert 404 == ada.get(f"{PREFIX}/sessions/{session_id}").status_code
    assert 1 == len(call(bo, "GET", f"/sessions/{session_id}")["turns"])
    poor = people.program("Bo", "*", tokens_per_day=1)
    session_id = call(poor, "POST", "/sessions", 201, persona="plain")["id"]
    call(poor, "POST", f"/sessions/{session_id}/turns", input="Why?")
    response = poor.post(f"{PREFIX}/sessions/{session_id}/turns", json={"input": "And?"})
    assert_error(response, 429, "insufficient_quota")


def test_changes_from_another_site_are_refused_with_the_cookie_or_without(
    app: Flask, rolebook: Rolebook
) -> None:
    browser = People(app, rolebook).add("Ada").browser
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        response = browser.post(f"{PREFIX}/sessions", json={"persona": "plain"}, headers=headers)
        assert_error(response, 403, "invalid_request")
    assert [] == call(browser, "GET", "/sessions")["sessions"]
