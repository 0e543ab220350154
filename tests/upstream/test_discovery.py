import time
from urllib.parse import urlsplit

from rolebook.upstream.discovery import LocalServer, find_local_servers
from tests.fake_upstream import FakeUpstream


def port_of(fake: FakeUpstream) -> int:
    return urlsplit(fake.base_url).port or 0


def test_server_is_found_with_its_models_and_how_to_use_it(fake: FakeUpstream) -> None:
    (server,) = find_local_servers(ports=[(port_of(fake), "Ollama"), (9, "LM Studio")])

    assert server.kind == "Ollama"
    assert server.base_url == f"http://127.0.0.1:{port_of(fake)}/v1"
    assert "gpt-4o" in server.models
    assert server.usage == f"OPENAI_BASE_URL={server.base_url} ROLEBOOK_MODEL={server.models[0]}"


def test_server_without_models_can_still_be_used() -> None:
    assert (
        LocalServer("Ollama", "http://127.0.0.1:1/v1", ()).usage
        == "OPENAI_BASE_URL=http://127.0.0.1:1/v1"
    )


def test_we_are_not_taken_for_a_model_server(fake: FakeUpstream) -> None:
    assert find_local_servers(ports=[(port_of(fake), "vLLM")], own_ports=[port_of(fake)]) == ()


def test_server_that_is_silent_or_no_model_server_is_left_out_in_time(fake: FakeUpstream) -> None:
    for fault in ("hang", "html-200", "404", "drip"):
        fake.path_rule("/v1/models", fault)
        began = time.monotonic()
        assert find_local_servers(ports=[(port_of(fake), "vLLM")]) == ()
        # Those that have no end would keep whoever waits for it for a minute.
        assert time.monotonic() - began < 6


def test_no_key_is_sent_to_a_server_that_is_only_guessed(fake: FakeUpstream) -> None:
    find_local_servers(ports=[(port_of(fake), "vLLM")])

    assert fake.requests[0].api_key == "no-key-needed"
