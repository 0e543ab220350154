"""One table, one JSON shape, one page."""

from __future__ import annotations

import logging
import re

import pytest
from flask import Flask
from flask.testing import FlaskClient

from rolebook.core import errors
from rolebook.core.errors import (
    BudgetError,
    BudgetHeldError,
    ConflictError,
    CutOffError,
    FileError,
    InputError,
    LibraryError,
    NotFoundError,
    Problem,
    PromptError,
    RateLimitError,
    RolebookError,
    StorageError,
    UpstreamConnectionError,
    UpstreamError,
    UpstreamKeyError,
    UpstreamQuotaError,
    UpstreamRateError,
    UpstreamRefusedError,
    UpstreamReplyError,
    UpstreamServerError,
    UpstreamSilentError,
    UpstreamTimeoutError,
    VariableError,
)
from rolebook.web.errors import STATUSES, headers_of, respond, status_of
from tests.conftest import ROOT
from tests.web.checks import assert_error

CASES = [
    (InputError("Bad %(what)s.", what="thing"), 400, "invalid_input", None),
    (InputError("%(key)s is wrong.", key="seed"), 400, "invalid_input", "seed"),
    (VariableError("'%(name)s' is needed.", name="subject"), 400, "invalid_variable", "subject"),
    (FileError([Problem("a.yaml", 3, 1, "Broken.")]), 422, "invalid_file", None),
    (PromptError("No such variable.", file="a.jinja", line=2), 422, "invalid_prompt", None),
    (NotFoundError("Nothing here."), 404, "not_found", None),
    (ConflictError("Taken."), 409, "conflict", None),
    (StorageError("Disk full."), 503, "storage", None),
    (UpstreamKeyError("The key was refused."), 503, "upstream_key", None),
    (UpstreamRefusedError("No such model."), 400, "upstream_refused", None),
    (UpstreamRateError("Too many.", retry_after_s=12.4), 429, "upstream_rate", None),
    (UpstreamTimeoutError("Too slow."), 504, "upstream_timeout", None),
    (UpstreamConnectionError("Gone.", detail="refused"), 502, "upstream_connection", None),
]


FOLDERS = [
    StorageError("%(path)s is no SQLite database.", path="/srv/private/rolebook.db"),
    StorageError(
        "%(count)d wait. %(reason)s",
        count=1,
        path="/srv/private/rolebook.db",
        reason="The disk of /srv/private/rolebook.db is full.",
    ),
    StorageError(
        "%(path)s cannot be kept: %(place)s is read-only.",
        path="/srv/private/rolebook.db",
        place="/srv/private",
    ),
    UpstreamRefusedError("%(path)s holds no answer.", path="/srv/private/answers.jsonl"),
]


@pytest.fixture
def raising(app: Flask) -> FlaskClient:
    """A client of an application in which `/raise/N` raises the error N of the table."""

    @app.get("/raise/<int:number>")
    def raise_it(number: int) -> str:
        raise CASES[number][0]

    @app.get("/folder/<int:number>")
    def raise_folder(number: int) -> str:
        raise FOLDERS[number]

    @app.get("/crash")
    def crash() -> str:
        raise RuntimeError("sk-secret in /home/me/rolebook <b>")

    return app.test_client()


@pytest.mark.parametrize("number", range(len(FOLDERS)))
def test_no_folder_of_this_computer_is_told_to_who_calls(
    raising: FlaskClient, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    for accept in ("application/json", "text/html"):
        said = raising.get(f"/folder/{number}", headers={"Accept": accept}).text
        assert "/srv" not in said
        assert "rolebook.db" in said or "answers.jsonl" in said or "1 wait" in said
    if isinstance(FOLDERS[number], StorageError):
        assert str(FOLDERS[number]) in caplog.messages


def test_every_error_of_the_inner_layers_has_a_kind_and_so_a_status() -> None:
    bare = re.compile(r"\braise RolebookError\(")
    layers = ("core", "library", "storage", "upstream", "report", "web")
    files = [path for layer in layers for path in (ROOT / "rolebook" / layer).rglob("*.py")]
    assert len(files) > 100
    assert [] == [path.name for path in files if bare.search(path.read_text("utf-8"))]


@pytest.mark.parametrize("number", range(len(CASES)))
def test_errors_have_one_json_shape(raising: FlaskClient, number: int) -> None:
    error, status, code, param = CASES[number]
    response = raising.get(f"/raise/{number}", headers={"Accept": "application/json"})
    message = assert_error(response, status, code, param=param)
    assert (error.message % error.parameters) in message


@pytest.mark.parametrize("number", range(len(CASES)))
def test_errors_have_one_page(raising: FlaskClient, number: int) -> None:
    status = CASES[number][1]
    response = raising.get(f"/raise/{number}", headers={"Accept": "text/html"})
    assert response.status_code == status
    assert response.mimetype == "text/html"
    assert "<h1>" in response.text
    assert 'href="/"' in response.text


@pytest.mark.parametrize(
    ("error", "heading"),
    [
        (StorageError("Disk full."), "Something is wrong with the log"),
        (UpstreamKeyError("No key."), "The model did not answer"),
        (LibraryError("No folder."), "Something went wrong"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_page_says_by_its_heading_what_cannot_be_had(
    app: Flask, error: RolebookError, heading: str
) -> None:
    with app.test_request_context("/comparisons", headers={"Accept": "text/html"}):
        page = respond(error)
    assert (503, True) == (page.status_code, f"<h1>{heading}</h1>" in page.get_data(as_text=True))


def test_every_kind_of_error_has_a_status() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    for kind in kinds:
        if issubclass(kind, RolebookError):
            assert any(base in STATUSES for base in kind.__mro__)
    assert status_of(RolebookError("?")) == 500


def test_a_rate_error_says_when_to_come_back(raising: FlaskClient) -> None:
    number = next(n for n, case in enumerate(CASES) if case[1] == 429)
    assert raising.get(f"/raise/{number}").headers["Retry-After"] == "13"


def _rate(seconds: float) -> UpstreamError:
    return UpstreamRateError("Too many.", retry_after_s=seconds)


def _quota(seconds: float) -> UpstreamError:
    return UpstreamQuotaError("Used up.", retry_after_s=seconds)


def _refused() -> UpstreamError:
    return UpstreamRefusedError("No such model.")


@pytest.mark.parametrize(
    ("error", "retry_after", "should_retry"),
    [
        (BudgetError("Used up.", retry_after_s=40_000.0), "40000", "false"),
        (BudgetHeldError("Held.", retry_after_s=5.0), "5", None),
        (RateLimitError("Too many.", retry_after_s=2.1), "3", None),
        (UpstreamRateError("Too many.", retry_after_s=90.0), "90", "false"),
        (UpstreamRateError("Too many.", retry_after_s=0.0), "1", None),
        (UpstreamQuotaError("Used up.", retry_after_s=5.0), "5", "false"),
        (UpstreamKeyError("Refused."), None, "false"),
        (UpstreamTimeoutError("Too slow."), None, "false"),
        (UpstreamReplyError("Nonsense."), None, "false"),
        (UpstreamServerError("Failed."), None, None),
        (UpstreamServerError("Failed.", took_s=61), None, "false"),
        (UpstreamSilentError("Silent.", retry_after_s=4.0), "4", None),
        (CutOffError("Stopped.", retry_after_s=5.0), "5", None),
        (ConflictError("Under way."), None, None),
        # Nobody sends these once more.
        (UpstreamRefusedError("No such model."), None, None),
        (InputError("Bad."), None, None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, RolebookError) else None,
)
def test_programs_are_told_when_to_send_the_same_once_more(
    app: Flask, error: RolebookError, retry_after: str | None, should_retry: str | None
) -> None:
    with app.test_request_context("/v1/chat/completions"):
        headers = headers_of(error)
    assert (retry_after, should_retry) == (
        headers.get("Retry-After"),
        headers.get("X-Should-Retry"),
    )


@pytest.mark.parametrize(
    ("first", "others", "retry_after", "should_retry"),
    [
        (_quota(600), [_rate(4), _refused()], "4", None),
        (_quota(600), [_rate(30), _rate(4)], "4", None),
        (
            _quota(600),
            [_refused(), UpstreamKeyError("Refused.", retry_after_s=3600)],
            "600",
            "false",
        ),
        (_quota(5), [_rate(30)], "30", None),
        (_rate(4), [_quota(600)], "4", None),
        (_rate(90), [_rate(70)], "70", "false"),
        # When that one answers again is not known: perhaps at once.
        (_quota(600), [UpstreamServerError("Failed.")], None, None),
    ],
)
def test_of_several_that_were_asked_the_one_counts_that_answers_first(
    app: Flask,
    first: UpstreamError,
    others: list[UpstreamError],
    retry_after: str | None,
    should_retry: str | None,
) -> None:
    first.parameters["others"] = [other.outcome for other in others]
    with app.test_request_context("/v1/chat/completions"):
        headers = headers_of(first)
    assert (retry_after, should_retry) == (
        headers.get("Retry-After"),
        headers.get("X-Should-Retry"),
    )


def test_the_words_of_the_upstream_are_shown(raising: FlaskClient) -> None:
    number = len(CASES) - 1
    assert raising.get(f"/raise/{number}").text.count("(refused)") == 1


@pytest.mark.parametrize("accept", ["application/json", "text/html"])
def test_a_crash_is_logged_and_shows_nothing_of_the_inside(
    raising: FlaskClient, caplog: pytest.LogCaptureFixture, accept: str
) -> None:
    with caplog.at_level(logging.ERROR):
        response = raising.get("/crash", headers={"Accept": accept})
    assert response.status_code == 500
    for secret in ("sk-secret", "/home/me", "Traceback", "RuntimeError", "<b>"):
        assert secret not in response.text
    assert "RuntimeError" in caplog.text
    assert "GET /crash" in caplog.text


@pytest.mark.parametrize(
    "path", ["/<script>alert(1)</script>", "/personas/<b>x", "/%3Csvg%20onload=x%3E"]
)
def test_what_is_not_found_does_not_come_back_as_html(client: FlaskClient, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 404
    for piece in ("<script>alert", "<b>x", "<svg onload"):
        assert piece not in response.text


@pytest.mark.parametrize(
    ("path", "way"),
    [
        ("/sessions/gone", "sessions"),
        ("/turns/gone", "sessions"),
        ("/comparisons/gone", "comparisons"),
        ("/personas/gone", "personas"),
        ("/nothing", "personas"),
    ],
)
def test_the_first_way_on_leads_to_the_list_of_what_was_looked_for(
    client: FlaskClient, path: str, way: str
) -> None:
    page = client.get(path).text
    assert [f"Back to the {way}"] == re.findall(r'class="button primary"[^>]*>([^<]+)<', page)
    assert "Back to the personas" in page


def test_programs_get_json_and_readers_get_pages(client: FlaskClient) -> None:
    assert client.get("/nothing").mimetype == "text/html"
    assert client.get("/nothing", headers={"Accept": "text/html,*/*;q=0.8"}).mimetype == "text/html"
    for accept in ("application/json", "text/event-stream"):
        assert_error(client.get("/nothing", headers={"Accept": accept}), 404, "invalid_request")
    assert_error(client.get("/v1/nothing"), 404, "invalid_request")


def test_a_wrong_method_says_which_are_right(client: FlaskClient) -> None:
    assert "GET" in client.post("/status").headers["Allow"]
