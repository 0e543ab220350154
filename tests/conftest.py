"""What tests share: folders, a Rolebook on them, its pages, a real server and a real browser."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, settings
from jinja2.bccache import Bucket, BytecodeCache
from werkzeug.routing import Rule
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from rolebook.config import FOREIGN_VARIABLES
from rolebook.core.sandbox import Sandbox
from rolebook.storage import password, schema
from rolebook.wiring import Rolebook, open_rolebook
from tests.fake_upstream import FakeUpstream

if TYPE_CHECKING:
    import openai
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from sqlite_utils import Database

ROOT = Path(__file__).parent.parent
CHROMIUMS = ("/usr/bin/chromium-headless-shell", "/usr/bin/chromium")
"""The first that there is draws the tests' pages. The former is the latter without what only people see of it."""
PATIENCE_MS = 20_000
"""How long something may take to appear on a page; a busy machine takes its time."""

# Hypothesis times its examples by the clock, which on a busy machine is the time of the others too.
settings.register_profile("rolebook", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("rolebook")

TEACHER = """\
name: Teacher
description: Explains one idea at a time.
tags: [education]
language: en
avatar: "T"
system: |-
  You are a patient teacher of {{ subject }} for a {{ level }}.
variables:
  subject: {default: mathematics, description: What you want to learn}
  level: {type: choice, choices: [beginner, expert], default: beginner}
sampling: {temperature: 0.7, max_tokens: 600}
examples:
  - {user: What is a fraction?, assistant: A piece of a whole.}
greeting: Hello! What about {{ subject }} shall we look at?
starters: [Why is the sky blue?, Explain prime numbers]
"""
FRIEND = """\
name: 知心朋友
description: 陪你说说话，不说教。
tags: [life]
language: zh
avatar: "友"
system: 你是一位稳当的老朋友。
greeting: 来啦。今天想聊点什么？
starters: [今天有点丧]
"""
PLAIN = """\
name: Plain assistant
description: Answers, and says no more than it was asked.
tags: [work, life]
language: en
system: Answer briefly.
"""


def pytest_xdist_auto_num_workers() -> int:
    """Half as many again as there are cores: nearly half of the time tests wait for browsers, servers and disks."""
    return (os.cpu_count() or 1) * 3 // 2


def pytest_configure() -> None:
    """What runs in a shell's background ignores Ctrl-C, and so would all that the tests start and stop by it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


#: Makes a Rolebook over the test's own folders.
#: Arguments: the environment; settings by name, as flags.
MakeRolebook = Callable[..., Rolebook]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the keys, proxies or settings of whoever runs it."""
    foreign = {name for names, _ in FOREIGN_VARIABLES for name in names.split(", ")}
    for name in os.environ:
        if name.upper() in foreign or name.startswith("ROLEBOOK_"):
            monkeypatch.delenv(name)


class _CompiledPages(BytecodeCache):
    """Pages as Jinja compiled them, by their texts; in memory."""

    def __init__(self) -> None:
        self._codes: dict[tuple[str, str], bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if code := self._codes.get((bucket.key, bucket.checksum)):
            bucket.bytecode_from_string(code)

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._codes[bucket.key, bucket.checksum] = bucket.bytecode_to_string()


@pytest.fixture(scope="session", autouse=True)
def compiled_pages() -> Iterator[None]:
    """A page is compiled once, and not once for each application: that was half of the time of the tests of pages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Flask, "jinja_options", {"bytecode_cache": _CompiledPages()})
        yield


_COMPILED = ("arguments", "_parts", "_trace", "_converters", "_build", "_build_unknown")


@pytest.fixture(scope="session", autouse=True)
def compiled_rules() -> Iterator[None]:
    """The rule of an address is compiled once, and not once for each application: it was nearly all of the time that an
    application takes to make.
    """
    compile_rule = Rule.compile
    compiled: dict[tuple[object, ...], Rule] = {}

    def compile_once(rule: Rule) -> None:
        defaults = repr(sorted((rule.defaults or {}).items()))
        first = compiled.setdefault((rule.rule, rule.subdomain, rule.merge_slashes, defaults), rule)
        if first is rule:
            compile_rule(rule)
        for name in _COMPILED:
            setattr(rule, name, getattr(first, name))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Rule, "compile", compile_once)
        yield


@pytest.fixture(scope="session")
def new_log(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A log that nothing was written to."""
    path = tmp_path_factory.mktemp("log") / "rolebook.db"
    schema.prepare(path, patience_s=5).close()
    return path.read_bytes()


@pytest.fixture(autouse=True)
def copied_logs(new_log: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log begins as a copy of one that was made before: to make it is what most tests would spend their time on."""
    migrated, lock = schema._migrated, threading.Lock()

    def copied(path: Path, patience_s: float) -> Database:
        with lock:
            if path.exists() and not path.stat().st_size:
                path.write_bytes(new_log)
        return migrated(path, patience_s)

    monkeypatch.setattr(schema, "_migrated", copied)


@pytest.fixture(autouse=True)
def quick_passwords(monkeypatch: pytest.MonkeyPatch) -> str:
    """Passwords are hashed with less effort: it is meant to take a tenth of a second, for those who guess. How they
    are hashed otherwise.
    """
    method = password._METHOD
    monkeypatch.setattr(password, "_METHOD", "scrypt:128:8:1")
    return method


class _LentSandbox(Sandbox):
    """Goes on for others when somebody who had it closes it."""

    def dismiss(self) -> None:
        """Its processes stay."""

    def close(self) -> None:
        """They stay here as well."""

    def end(self) -> None:
        super().dismiss()
        super().close()


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """Where all tests render: starting a process of their own takes longer than what most of them try."""
    lent = _LentSandbox()
    yield lent
    lent.end()


@pytest.fixture
def library_dir(tmp_path: Path) -> Path:
    """A folder with `personas` (three small ones) and `templates` (those that are shipped)."""
    personas = tmp_path / "personas"
    personas.mkdir()
    for name, text in {"teacher": TEACHER, "friend": FRIEND, "plain": PLAIN}.items():
        (personas / f"{name}.yaml").write_text(text, "utf-8")
    shutil.copytree(ROOT / "templates", tmp_path / "templates")
    return tmp_path


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    """A well-behaved OpenAI-compatible server; models by name misbehave as asked."""
    with FakeUpstream() as fake:
        yield fake


@pytest.fixture
def make_rolebook(
    library_dir: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MakeRolebook]:
    """Makes Rolebooks over `library_dir`; with no environment it rehearses."""
    monkeypatch.chdir(library_dir)
    with ExitStack() as stack:

        def make(environment: Mapping[str, str] | None = None, **flags: str) -> Rolebook:
            book = open_rolebook(environment=environment or {}, flags=flags, sandbox=sandbox)
            stack.callback(book.close)
            return book

        yield make


@pytest.fixture
def rolebook(make_rolebook: MakeRolebook, upstream: FakeUpstream) -> Rolebook:
    """A Rolebook whose upstream is `upstream`, with the model `ok`."""
    return make_rolebook({"OPENAI_BASE_URL": upstream.base_url, "ROLEBOOK_MODEL": "ok"})


@pytest.fixture
def app(rolebook: Rolebook) -> Flask:
    from rolebook.web.app import create_app

    return create_app(rolebook)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


class _QuietHandler(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        """Requests of a test are no news."""


@dataclass(frozen=True, slots=True)
class LiveServer:
    """Real pages on a real port."""

    url: str
    rolebook: Rolebook
    app: Flask


#: Serves a Rolebook until the test ends.
Serve = Callable[[Rolebook], LiveServer]


@pytest.fixture
def serve(make_rolebook: MakeRolebook) -> Iterator[Serve]:
    """Serves a Rolebook on a free port of loopback; stops before the Rolebook is closed."""
    from rolebook.web.app import create_app

    with ExitStack() as stack:

        def start(book: Rolebook) -> LiveServer:
            app = create_app(book)
            server = make_server(
                "127.0.0.1", 0, _closing(app), threaded=True, request_handler=_QuietHandler
            )
            thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
            thread.start()
            stack.callback(_stop, server, thread)
            return LiveServer(f"http://127.0.0.1:{server.server_port}", book, app)

        yield start


def _closing(app: WSGIApplication) -> WSGIApplication:
    """The same application, whose answers are closed by themselves: where a browser has gone, werkzeug's server looks
    whether anything more has come from it, fails over that, and leaves the file open that it was sending.
    """

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        return _closed_after(app(environ, start_response))

    return answer


def _closed_after(items: Iterable[bytes]) -> Iterator[bytes]:
    try:
        yield from items
    finally:
        if hasattr(items, "close"):
            items.close()


def _stop(server: BaseWSGIServer, thread: threading.Thread) -> None:
    server.shutdown()
    thread.join(5)
    server.server_close()


@pytest.fixture
def live_server(serve: Serve, rolebook: Rolebook) -> LiveServer:
    """The pages of `rolebook` on a real port."""
    return serve(rolebook)


#: Makes an official client of a served Rolebook.
NewSdk = Callable[[LiveServer], "openai.OpenAI"]


@pytest.fixture
def new_sdk() -> Iterator[NewSdk]:
    """Clients that ask once, so that what a test sees is the first answer."""
    import openai

    with ExitStack() as stack:

        def make(server: LiveServer) -> openai.OpenAI:
            client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0)
            return stack.enter_context(client)

        yield make


@pytest.fixture
def sdk(live_server: LiveServer, new_sdk: NewSdk) -> openai.OpenAI:
    """The official client of the gateway of `rolebook`, over a real socket."""
    return new_sdk(live_server)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """One chromium for all tests."""
    found = next(filter(os.path.exists, CHROMIUMS), None)
    if found is None:
        pytest.fail(
            "The tests of the pages need a browser (apt-get install chromium-headless-shell)."
        )
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=found,
            args=[
                *(
                    "--headless",
                    "--no-sandbox",
                    "--disable-gpu",
                    "--disable-quic",
                    "--no-first-run",
                ),
                *("--disable-background-networking", "--disable-component-update"),
                # A key or a wheel scrolls at once, and not little by little for as long as the machine likes.
                "--disable-smooth-scrolling",
                *("--disable-sync", "--renderer-process-limit=1"),
            ],
        )
        yield chromium
        chromium.close()


class _Profile:
    """What one person's browser remembers, used by one test after the other and forgotten in between.

    A page that is held open keeps the process alive that draws the pages: to start one, and all that it has to load
    and compile, took half of the time of a test.
    """

    def __init__(self, browser: Any, language: str, script: bool) -> None:
        self.context = browser.new_context(
            locale={"en": "en-US", "zh": "zh-CN"}[language], java_script_enabled=script
        )
        self.context.set_default_timeout(PATIENCE_MS)
        self._held = self.context.new_page()
        self._tools = self.context.new_cdp_session(self._held)

    def forget(self) -> None:
        """Close its pages, and be as one that was never used."""
        pages = [page for page in self.context.pages if page is not self._held]
        origins = {"://".join(urlsplit(page.url)[:2]) for page in pages}
        for page in pages:
            self._close(page)
        self.context.clear_cookies()
        self.context.clear_permissions()
        for origin in origins:
            what = {"origin": origin, "storageTypes": "all"}
            self._tools.send("Storage.clearDataForOrigin", what)

    def _close(self, page: Any) -> None:
        """Ask until the page has gone: Chromium says yes and forgets it while the page changes to another address
        (https://issues.chromium.org/issues/536385539), and `page.close()` waits for ever."""
        from playwright.sync_api import TimeoutError

        info = self.context.new_cdp_session(page).send("Target.getTargetInfo")
        target = {"targetId": info["targetInfo"]["targetId"]}
        last = PATIENCE_MS // 1000
        for second in range(1, last + 1):
            try:
                with page.expect_event("close", timeout=1000):
                    self._tools.send("Target.closeTarget", target)
                return
            except TimeoutError:
                if second == last:
                    raise


@pytest.fixture(scope="session")
def profiles(browser: Any) -> dict[tuple[str, bool], list[_Profile]]:
    """Those that no test uses at the moment: by language, and by whether scripts run."""
    return defaultdict(list)


@dataclass
class Failures:
    """What went wrong in the pages of a test: errors on the console, scripts that failed, requests to elsewhere."""

    found: list[str] = field(default_factory=list)

    def watch(self, page: Any) -> None:
        page.on("console", self._note_console)
        page.on("pageerror", lambda error: self.found.append(f"script: {error}"))
        page.on("request", self._note_request)

    def _note_console(self, message: Any) -> None:
        if message.type == "error":
            self.found.append(f"console: {message.text}")

    def _note_request(self, request: Any) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in {"data", "blob"} and parts.hostname != "127.0.0.1":
            self.found.append(f"request to {request.url}")

    def expect(self, part: str) -> None:
        """Something that the test provoked: at least one failure with this in it; they are forgotten."""
        kept = [failure for failure in self.found if part not in failure]
        assert len(kept) < len(self.found), self.found
        self.found = kept


@pytest.fixture
def failures() -> Iterator[Failures]:
    """Must be empty when the test ends."""
    noted = Failures()
    yield noted
    assert noted.found == []


#: Opens a page with its own cookies.
#: Keywords: language ("en"), theme ("light"), width (1280), height (800), script (True).
NewPage = Callable[..., Any]


@pytest.fixture
def new_page(
    browser: Any,
    profiles: dict[tuple[str, bool], list[_Profile]],
    failures: Failures,
    serve: Serve,
) -> Iterator[NewPage]:
    """Opens pages in browsers of several languages, themes and sizes; they close before their server stops."""
    with ExitStack() as stack:

        def open_page(
            *,
            language: str = "en",
            theme: str = "light",
            width: int = 1280,
            height: int = 800,
            script: bool = True,
        ) -> Any:
            free = profiles[language, script]
            profile = free.pop() if free else _Profile(browser, language, script)

            def give_back() -> None:
                profile.forget()
                free.append(profile)

            stack.callback(give_back)
            page = profile.context.new_page()
            page.set_viewport_size({"width": width, "height": height})
            page.emulate_media(color_scheme=theme)
            failures.watch(page)
            return page

        yield open_page


@pytest.fixture
def page(new_page: NewPage) -> Any:
    """An English page on a desktop."""
    return new_page()
