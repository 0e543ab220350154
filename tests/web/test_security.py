"""Every route checks who asks and from where; every response tells the browser what it may do."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from rolebook.web.app import create_app
from rolebook.web.security import local_path
from tests.conftest import MakeRolebook
from tests.fake_upstream import FakeUpstream
from tests.web.checks import assert_error

FOREIGN_HOSTS = [
    *(
        "evil.example",
        "127.0.0.1.nip.io",
        "",
        "localhost.evil.example",
        "127.0.0.1:80@evil.example",
    ),
    *(
        "evil.example:127.0.0.1",
        "[::1].evil.example",
        "127.0.0.1 ",
        "[::2]",
        "2130706433",
        "localhost:x",
    ),
]
OWN_HOSTS = [
    "localhost",
    "127.0.0.1",
    "[::1]",
    "LOCALHOST",
    "localhost:8000",
    "127.0.0.1:80",
    "[::1]:8000",
]
#: Six shapes in which another site's page could send a form or a request.
FOREIGN_ORIGINS = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost"},
    {"Sec-Fetch-Site": "nonsense"},
    {"Origin": "null"},
    {"Origin": "http://localhost:3000"},
    {"Origin": "https://localhost"},
    {"Origin": "http://evil.example"},
    {"Origin": "http://app.localhost"},
    {"Origin": "http://localhost@evil.example"},
    {"Origin": ""},
]
OWN_ORIGINS = [
    {},
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "http://localhost"},
    {"Origin": "http://127.0.0.1"},
    {"Origin": "http://[::1]"},
]


def path_of(rule: Rule) -> str:
    """An address that the rule serves, with something for each of its parts."""
    parts = {name: "1" if name == "position" else "x" for name in rule.arguments}
    return rule.build(parts, append_unknown=False)[1]  # type: ignore[index]


def routes(app: Flask) -> Iterator[tuple[str, str]]:
    for rule in app.url_map.iter_rules():
        for method in sorted(rule.methods or ()):
            yield method, path_of(rule)


def test_every_route_refuses_a_foreign_host(app: Flask, client: FlaskClient) -> None:
    tried = [*routes(app), ("GET", "/no/such/page"), ("POST", "/"), ("GET", "/static/base.css")]
    for method, path in tried:
        for host in ("evil.example", "127.0.0.1.nip.io", ""):
            response = client.open(path, method=method, headers={"Host": host})
            assert response.status_code == 400, (method, path, host)


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_a_name_that_is_not_ours_is_refused(client: FlaskClient, host: str) -> None:
    response = client.get("/healthz", headers={"Host": host})
    assert "http://127.0.0.1:80" in assert_error(response, 400, "invalid_request")


@pytest.mark.parametrize("host", OWN_HOSTS)
def test_names_of_loopback_are_served_on_any_port(client: FlaskClient, host: str) -> None:
    assert client.get("/healthz", headers={"Host": host}).status_code == 200


def test_the_configured_host_is_served_too(make_rolebook: MakeRolebook) -> None:
    client = create_app(make_rolebook(host="roles.lan")).test_client()
    assert client.get("/healthz", headers={"Host": "roles.lan:8000"}).status_code == 200
    assert client.get("/healthz", headers={"Host": "evil.example"}).status_code == 400


def test_no_state_changing_route_is_reached_from_another_site(
    app: Flask, client: FlaskClient, upstream: FakeUpstream
) -> None:
    changing = [(m, p) for m, p in routes(app) if m not in {"GET", "HEAD", "OPTIONS"}]
    assert changing
    for method, path in changing:
        for headers in FOREIGN_ORIGINS:
            response = client.open(path, method=method, headers=headers)
            assert response.status_code == 403, (method, path, headers)
    assert upstream.requests == []
    database = app.extensions["rolebook"].log.database_status()
    assert (database.sessions, database.turns) == (0, 0)


@pytest.mark.parametrize("headers", OWN_ORIGINS)
def test_own_pages_and_programs_may_change_things(
    client: FlaskClient, headers: dict[str, str]
) -> None:
    response = client.post("/theme", data={"theme": "dark"}, headers=headers)
    assert response.status_code == 303


def test_json_in_the_guise_of_text_is_no_way_in(client: FlaskClient) -> None:
    response = client.post(
        "/personas/teacher/preview",
        data='{"input": "x"}',
        content_type="text/plain",
        headers={"Origin": "http://evil.example"},
    )
    assert response.status_code == 403


def test_routes_that_only_read_take_no_other_method(client: FlaskClient) -> None:
    for path in ("/", "/status", "/personas/teacher", "/healthz"):
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            response = client.open(path, method=method, headers={"Accept": "application/json"})
            assert_error(response, 405, "invalid_request")


@pytest.mark.parametrize(
    "path", ["/", "/personas/teacher", "/status", "/healthz", "/no/such/page", "/static/base.css"]
)
def test_every_response_restricts_the_browser(client: FlaskClient, path: str) -> None:
    with client.get(path) as response:
        headers = response.headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert "camera=()" in headers["Permissions-Policy"]


@pytest.mark.parametrize("path", ["/", "/personas/teacher", "/status", "/healthz", "/nothing"])
def test_pages_are_not_kept_by_caches(client: FlaskClient, path: str) -> None:
    assert client.get(path).headers["Cache-Control"] == "no-store"


def test_static_files_may_be_kept_and_checked(client: FlaskClient) -> None:
    with client.get("/static/base.css") as response:
        assert response.headers["Cache-Control"] == "no-cache"
        tag = response.headers["ETag"]
    with client.get("/static/base.css", headers={"If-None-Match": tag}) as response:
        assert response.status_code == 304


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        ('{"input": "' + "x" * 1_100_000 + '"}', "application/json", 413),
        ("input=" + "x" * 1_100_000, "application/x-www-form-urlencoded", 413),
        ("&".join(f"v-{n}=x" for n in range(50_000)), "application/x-www-form-urlencoded", 413),
        ("[" * 100_000, "application/json", 400),
        ('{"input": ' + "[" * 90_000 + "]" * 90_000 + "}", "application/json", 400),
        ('{"input": NaN}', "application/json", 400),
        ('{"input": 1e999}', "application/json", 400),
        ('{"input": ' + "9" * 5000 + "}", "application/json", 400),
        ('{"input": "\\ud800"}', "application/json", 400),
        ('{"input": 7}', "application/json", 400),
        ('["input"]', "application/json", 400),
        ("{", "application/json", 400),
        ("", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
    ],
    ids=lambda value: str(value)[:24],
)
def test_monstrous_bodies_are_refused_quickly(
    client: FlaskClient, body: str | bytes, content_type: str, status: int
) -> None:
    def send(data: str | bytes, kind: str) -> TestResponse:
        return client.post(
            "/personas/teacher/preview",
            data=data,
            content_type=kind,
            headers={"Accept": "application/json"},
        )

    # What the first request of all imports and compiles is not what this is about.
    send("[]", "application/json")
    began = time.thread_time()
    response = send(body, content_type)
    assert time.thread_time() - began < 1
    assert_error(response, status, "invalid_request")


def test_a_multipart_form_with_many_parts_is_refused(client: FlaskClient) -> None:
    response = client.post(
        "/personas/teacher/preview",
        data={f"v-{n}": "x" for n in range(1500)},
        content_type="multipart/form-data",
        headers={"Accept": "application/json"},
    )
    assert_error(response, 413, "invalid_request")


@pytest.mark.parametrize(
    "target",
    [
        *(
            "//evil.example",
            "/\\evil.example",
            "\t//evil.example",
            "/\t/evil.example",
            "https:evil.example",
        ),
        *(
            "https://evil.example/",
            "javascript:alert(1)",
            "",
            "evil",
            "\\\\evil",
            "/ok\r\nX: y",
            "/a b",
        ),
        *("/\x00", "///evil.example", "/é"),
    ],
)
def test_a_redirect_never_leaves_the_site(client: FlaskClient, target: str) -> None:
    assert local_path(target) == "/"
    response = client.post("/language", data={"language": "zh", "next": target})
    assert response.headers["Location"] == "/"


@pytest.mark.parametrize("target", ["/", "/status", "/?q=a%20b&tag=work", "/sessions/x#turn-1"])
def test_a_redirect_goes_back_to_the_page(client: FlaskClient, target: str) -> None:
    response = client.post("/language", data={"language": "zh", "next": target})
    assert response.headers["Location"] == target


@pytest.mark.parametrize(
    "persona_id",
    [
        *("..%2f..%2fetc%2fpasswd", "%2e%2e", "a%00b", "a%5C..%5Cb", "C:%5Cx", ".", "-rf", "CON"),
        *("x" * 300, "%0d%0aX:y", "TEACHER", "teacher.yaml", "%ff"),
    ],
)
def test_an_odd_persona_id_is_not_found(client: FlaskClient, persona_id: str) -> None:
    for method, path in (
        ("GET", f"/personas/{persona_id}"),
        ("POST", f"/personas/{persona_id}/preview"),
    ):
        response = client.open(path, method=method, headers={"Accept": "application/json"})
        assert response.status_code in {308, 404, 405}
        assert "root:" not in response.text


@pytest.mark.parametrize(
    ("served_on", "host", "status"),
    [
        ("127.0.0.1", "192.168.7.9:8000", 400),
        ("0.0.0.0", "192.168.7.9:8000", 200),
        ("0.0.0.0", "127.0.0.1:8000", 200),
        ("::", "[fe80::1]:8000", 200),
        ("0.0.0.0", "evil.example", 400),
        ("0.0.0.0", "127.0.0.1.nip.io", 400),
        ("books.lan", "books.lan:8000", 200),
        ("books.lan", "192.168.7.9:8000", 400),
    ],
)
def test_a_network_reaches_it_by_number_and_never_by_a_foreign_name(
    make_rolebook: MakeRolebook, served_on: str, host: str, status: int
) -> None:
    client = create_app(make_rolebook(host=served_on)).test_client()
    assert client.get("/healthz", headers={"Host": host}).status_code == status
