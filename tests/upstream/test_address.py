import pytest

from rolebook.core.errors import SettingError, UpstreamConnectionError
from rolebook.core.upstream import Timeouts, UpstreamSettings
from rolebook.upstream.address import is_loopback, is_openai, proxy_for
from rolebook.upstream.openai_upstream import OpenAIUpstream
from tests.fake_upstream import FakeUpstream
from tests.upstream.asking import ask, ask_for
from tests.upstream.conftest import OpenUpstream

OPENAI = "https://api.openai.com/v1"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def settings(base_url: str = OPENAI, **more: object) -> UpstreamSettings:
    return UpstreamSettings(name="mine", base_url=base_url, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("environment", "base_url", "proxy"),
    [
        ({}, OPENAI, ""),
        ({"HTTPS_PROXY": "http://p:1"}, OPENAI, "http://p:1"),
        ({"https_proxy": "p:1"}, OPENAI, "http://p:1"),
        ({"HTTP_PROXY": "http://p:1"}, OPENAI, ""),
        ({"HTTP_PROXY": "http://p:1"}, "http://far.example/v1", "http://p:1"),
        ({"ALL_PROXY": "socks5h://p:1"}, OPENAI, "socks5h://p:1"),
        ({"ALL_PROXY": "socks5://p:1", "HTTPS_PROXY": "http://q:1"}, OPENAI, "http://q:1"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "openai.com"}, OPENAI, ""),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, OPENAI, ""),
        ({"HTTP_PROXY": "http://p:1", "ALL_PROXY": "http://p:1"}, "http://127.0.0.1:11434/v1", ""),
        ({"HTTP_PROXY": "http://p:1"}, "http://localhost:8000/v1", ""),
        ({"HTTP_PROXY": "http://p:1"}, "http://[::1]:8000/v1", ""),
    ],
)
def test_environment_names_the_proxy_but_never_for_this_computer(
    environment: dict[str, str], base_url: str, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert proxy_for(settings(base_url)) == proxy


def test_own_proxy_wins_even_for_this_computer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://other:1")

    assert proxy_for(settings(proxy="http://own:1")) == "http://own:1"
    assert proxy_for(settings("http://127.0.0.1/v1", proxy="http://own:1")) == "http://own:1"


@pytest.mark.parametrize("proxy", ["gopher://p:1", "p:1", "http://", "http://user:secret@p:x"])
def test_broken_proxy_is_a_setting_error_that_keeps_its_password(proxy: str) -> None:
    with pytest.raises(SettingError) as caught:
        OpenAIUpstream(settings(proxy=proxy))

    assert "mine" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "host", ["example..com", ".example", "256.1.1.1", "127.1", "a" * 64 + ".example"]
)
def test_mistyped_host_is_a_setting_error(host: str) -> None:
    with pytest.raises(SettingError) as caught:
        OpenAIUpstream(settings(f"http://{host}:8000/v1"))

    assert f"an http or https address such as {OPENAI}, got 'http://{host}" in str(caught.value)


@pytest.mark.parametrize("host", ["example.com.", "模型.example", "[2001:db8::1]", "my_server"])
def test_host_that_can_be_looked_up_is_none(host: str) -> None:
    assert OpenAIUpstream(settings(f"http://{host}:8000/v1")).name == "mine"


def test_broken_proxy_of_the_environment_names_the_variables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "gopher://user:secret@p:1")

    with pytest.raises(UpstreamConnectionError) as caught:
        proxy_for(settings())

    assert "HTTPS_PROXY" in caught.value.message
    assert "secret" not in str(caught.value.parameters)


def test_call_goes_through_the_proxy(open_upstream: OpenUpstream, fake: FakeUpstream) -> None:
    """A proxy for http gets the whole address; the fake takes it for a path that it does not know."""
    proxy = fake.base_url.removesuffix("/v1")
    upstream = open_upstream(base_url="http://far.example/v1", proxy=proxy)

    ask(upstream, ask_for())

    assert fake.requests[0].path == "http://far.example/v1/chat/completions"


@pytest.mark.parametrize("scheme", ["http", "https", "socks5", "socks5h"])
def test_proxy_that_is_not_there_is_a_connection_error(
    open_upstream: OpenUpstream, scheme: str
) -> None:
    upstream = open_upstream(
        base_url="https://far.example/v1",
        proxy=f"{scheme}://127.0.0.1:9",
        attempts=1,
        timeouts=Timeouts(1, 1, 1, 2),
    )

    assert isinstance(ask(upstream, ask_for()).error, UpstreamConnectionError)


@pytest.mark.parametrize(
    ("base_url", "is_local"),
    [
        ("http://127.0.0.1:8000/v1", True),
        ("http://127.9.9.9/v1", True),
        ("http://[::1]/v1", True),
        ("http://LOCALHOST/v1", True),
        ("http://a.localhost/v1", True),
        ("http://localhost.example/v1", False),
        ("http://127.0.0.1.nip.io/v1", False),
        ("http://10.0.0.1/v1", False),
        ("https://api.openai.com/v1", False),
    ],
)
def test_this_computer_is_known_by_its_address(base_url: str, is_local: bool) -> None:
    assert is_loopback(base_url) is is_local


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        ("https://api.openai.com/v1", True),
        ("https://eu.api.openai.com/v1", True),
        ("https://notopenai.com/v1", False),
        ("https://api.openai.com.example/v1", False),
        ("https://example/api.openai.com", False),
    ],
)
def test_openai_is_known_by_its_host(base_url: str, expected: bool) -> None:
    assert is_openai(base_url) is expected
