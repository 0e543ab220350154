"""Settings: their sources, their order, and what is said of one that does not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from rolebook.config import SETTINGS, Settings, language_of_terminal, load_settings
from rolebook.core.errors import SettingError
from rolebook.core.upstream import Key


def load(
    *,
    flags: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    file: Mapping[str, Any] | None = None,
) -> Settings:
    def locate(path: Sequence[str | int]) -> str:
        return "rolebook.yaml:" + "/".join(str(part) for part in path)

    return load_settings(
        flags=flags or {}, environment=environment or {}, file=file or {}, locate=locate
    )


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("host", "127.0.0.1", ""),
        ("host", "127.9.9.9", ""),
        ("host", "::1", ""),
        ("host", "localhost", ""),
        ("host", "0.0.0.0", "host 0.0.0.0"),
        ("host", "::", "host ::"),
        ("host", "192.168.1.2", "host 192.168.1.2"),
        ("host", "example.com", "host example.com"),
        ("proxies", "0", ""),
        ("proxies", "2", "proxies 2"),
        ("host_names", "localhost,127.0.0.1", ""),
        ("host_names", "localhost, Roles.example.com", "host_names roles.example.com"),
    ],
)
def test_what_lets_others_reach_the_pages_is_known(name: str, value: str, expected: str) -> None:
    assert expected == load(flags={name: value}).exposure


def test_nothing_configured_means_rehearsal() -> None:
    settings = load()
    assert settings.is_rehearsal
    assert {} == settings.upstreams
    assert (Path("personas"), Path("data/rolebook.db"), 8000) == (
        settings.personas,
        settings.database,
        settings.port,
    )


def test_flags_win_over_the_environment_and_that_over_the_file() -> None:
    file = {"port": 1, "host": "file", "model": "file"}
    environment = {"ROLEBOOK_PORT": "2", "ROLEBOOK_HOST": "environment"}
    settings = load(flags={"port": "3"}, environment=environment, file=file)
    assert (3, "environment", "file") == (settings.port, settings.host, settings.model)


def test_empty_variable_counts_as_not_set() -> None:
    assert 8000 == load(environment={"ROLEBOOK_PORT": ""}).port


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_setting_has_help_and_a_default_that_fits(setting: Any) -> None:
    assert setting.help.endswith((".", ","))
    value = setting.default
    load(environment={setting.variable: value}, file={setting.name: value} if value else {})


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"ROLEBOOK_PORT": "http"}, "port must be a whole number from 0 to 65535, got 'http'."),
        ({"ROLEBOOK_PORT": "70000"}, "from 0 to 65535"),
        ({"ROLEBOOK_PORT": "٣"}, "from 0 to 65535"),
        (
            {"ROLEBOOK_IDLE_TIMEOUT": "0"},
            "idle_timeout must be a number of seconds above 0, got '0'.",
        ),
        ({"ROLEBOOK_IDLE_TIMEOUT": "nan"}, "seconds above 0"),
        ({"ROLEBOOK_TOTAL_TIMEOUT": "soon"}, "got 'soon'"),
        ({"ROLEBOOK_LANGUAGE": "fr"}, "language must be en or zh, got 'fr'."),
        ({"ROLEBOOK_UPSTREAM": "mars"}, "There is no upstream 'mars'. Configured: rehearsal."),
        ({"OPENAI_BASE_URL": "localhost:8000"}, "OPENAI_BASE_URL: the address must look like"),
        ({"OPENAI_BASE_URL": "ftp://host/v1"}, "the address must look like"),
        ({"OPENAI_BASE_URL": "https://user:secret@host/v1"}, "without user, password"),
        ({"OPENAI_BASE_URL": "https://host/v1?api-key=secret"}, "without user, password, ? and #"),
    ],
)
def test_setting_that_does_not_fit_is_named(environment: dict[str, str], message: str) -> None:
    with pytest.raises(SettingError) as caught:
        load(environment=environment)
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_names_that_other_programs_use_are_read() -> None:
    settings = load(
        environment={
            "OPENAI_API_KEY": " key-1 , key-2,",
            "OPENAI_ORG_ID": "org-1",
            "OPENAI_PROJECT_ID": "proj-1",
        }
    )
    upstream = settings.upstreams["openai"]
    assert "openai" == settings.upstream
    assert ["key-1", "key-2"] == [key.value for key in upstream.keys]
    assert ("org-1", "proj-1", "https://api.openai.com/v1", "gpt-4o-mini") == (
        upstream.organization,
        upstream.project,
        upstream.base_url,
        upstream.model,
    )


def test_key_is_read_from_a_file_with_one_a_line(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("key-1\n\nkey-2\n", "utf-8")
    settings = load(environment={"OPENAI_API_KEY_FILE": str(path)})
    assert ["key-1", "key-2"] == [key.value for key in settings.upstreams["openai"].keys]


def test_own_server_needs_no_key_and_no_model() -> None:
    settings = load(environment={"OPENAI_BASE_URL": "http://127.0.0.1:11434/v1/"})
    assert "127.0.0.1:11434" == settings.upstream
    upstream = settings.upstreams[settings.upstream]
    assert ("http://127.0.0.1:11434/v1", (), "") == (
        upstream.base_url,
        upstream.keys,
        upstream.model,
    )
    assert {} == settings.missing_keys


@pytest.mark.parametrize(
    ("base_url", "name"),
    [
        ("http://127.0.0.1:11434/v1", "127.0.0.1:11434"),
        ("https://LLM.example.com/v1", "llm.example.com"),
        ("http://[::1]:8080/v1", "[::1]:8080"),
        ("https://api.openai.com/v1/", "openai"),
        ("https://eu.api.openai.com/v1", "openai"),
        ("https://api.openai.com.example/v1", "api.openai.com.example"),
    ],
)
def test_upstream_without_a_name_is_called_by_its_address(base_url: str, name: str) -> None:
    assert [name] == list(load(environment={"OPENAI_BASE_URL": base_url}).upstreams)


def test_upstream_of_that_name_in_the_file_wins() -> None:
    there = {"base_url": "http://127.0.0.1:8010/v1", "model": "m"}
    settings = load(
        environment={"OPENAI_BASE_URL": "http://127.0.0.1:8010/v1"},
        file={"upstreams": {"127.0.0.1:8010": there}},
    )
    assert ["m"] == [upstream.model for upstream in settings.upstreams.values()]


def test_key_file_that_is_not_there_is_a_notice_and_keeps_nobody_from_starting() -> None:
    settings = load(environment={"OPENAI_API_KEY_FILE": "/nowhere/key"})
    ((message, parameters),) = settings.notices
    assert "key file /nowhere/key cannot be read" in message % parameters
    assert {"openai": "/nowhere/key"} == settings.missing_keys


def test_proxies_of_dotenv_count_as_those_of_the_environment() -> None:
    environment = {
        "HTTPS_PROXY": "http://127.0.0.1:3128",
        "no_proxy": "a.example",
        "OPENAI_API_KEY": "k",
    }
    upstream = load(environment=environment).upstreams["openai"]
    assert {"https": "http://127.0.0.1:3128", "no": "a.example"} == upstream.environment_proxies


def test_empty_key_is_worth_a_notice() -> None:
    settings = load(environment={"OPENAI_API_KEY": "  "})
    assert settings.is_rehearsal
    ((message, _),) = settings.notices
    assert "OPENAI_API_KEY is set but empty" in message


def test_file_lists_upstreams_and_the_first_is_the_default() -> None:
    settings = load(
        environment={"WORK_KEY": "key-1"},
        file={
            "upstreams": {
                "work": {
                    "base_url": "https://work.example/v1",
                    "keys": ["env:WORK_KEY"],
                    "proxy": "socks5h://127.0.0.1:1080",
                    "model": "m",
                    "timeouts": {"connect": 1, "first_byte": 2, "idle": 3.5, "total": 4},
                    "attempts": 1,
                },
                "other": {"keys": "env:GONE"},
            },
            "prices": {"m": {"input": 1, "output": 2.5}},
        },
    )
    work = settings.upstreams["work"]
    assert "work" == settings.upstream
    assert (1.0, 2.0, 3.5, 4.0) == (
        work.timeouts.connect_s,
        work.timeouts.first_byte_s,
        work.timeouts.idle_s,
        work.timeouts.total_s,
    )
    assert ("socks5h://127.0.0.1:1080", 1, "m") == (work.proxy, work.attempts, work.model)
    assert {"other": "GONE"} == settings.missing_keys
    assert {"m": {"input": 1.0, "output": 2.5}} == settings.prices


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ({"prot": 1}, "rolebook.yaml:prot: 'prot' is no setting. Known here: "),
        ({"upstreams": ["a"]}, "rolebook.yaml:upstreams: 'upstreams' must be a mapping."),
        ({"upstreams": {"a": {"url": "x"}}}, "rolebook.yaml:upstreams/a/url: 'url' is no setting."),
        (
            {"upstreams": {"a": {"keys": ["sk-live-1234567890"]}}},
            "rolebook.yaml:upstreams/a/keys/0: a key is never written here.",
        ),
        ({"upstreams": {"rehearsal": {}}}, "'rehearsal' is built in"),
        ({"upstreams": {"a": {"attempts": 0}}}, "attempts must be a whole number from 1 to 10"),
        (
            {"upstreams": {"a": {"record": "a.jsonl", "playback": "a.jsonl"}}},
            "rolebook.yaml:upstreams/a/playback: an upstream is either recorded or played back.",
        ),
        ({"upstreams": {"a": {"playback_timed": "slow"}}}, "playback_timed must be true or false"),
        ({"upstreams": {"a": {"concurrency": True}}}, "concurrency must be a whole number"),
        (
            {"upstreams": {"a": {"fallbacks": ["a"]}}},
            "rolebook.yaml:upstreams/a/fallbacks/0: 'a' cannot stand in here.",
        ),
        ({"upstreams": {"a": {"fallbacks": "rehearsal"}, "b": {}}}, "each once: b."),
        ({"upstreams": {"a": {"fallbacks": ["b", "b"]}, "b": {}}}, "fallbacks/1: 'b' cannot"),
        ({"upstreams": {"a": {"fallbacks": [{"name": "b"}]}}}, "'name' is no setting"),
        ({"upstreams": {"a": {"fallbacks": [7]}}}, "'0' must be a mapping"),
        ({"upstreams": {"a": {"timeouts": {"idle": "x"}}}}, "idle must be a number of seconds"),
        ({"upstreams": {"a": {"timeouts": {"slow": 1}}}}, "'slow' is no setting"),
        ({"upstreams": {"a": {"base_url": "x"}}}, "the address must look like"),
        (
            {"upstreams": {"a": {"base_url": "https://host/v1?api-key=sk-1234567890"}}},
            "rolebook.yaml:upstreams/a/base_url: the address must look like https://host/v1, without user, password, ?",
        ),
        ({"upstreams": {"a": {"base_url": "https://host/v1#sk-1234567890"}}}, "without user"),
        ({"upstreams": {"a": {"base_url": "https://host/v1?"}}}, "without user"),
        ({"prices": {"m": {"input": -1}}}, "US dollars per million tokens, got '-1'"),
        ({"prices": {"m": {"input": True}}}, "US dollars per million tokens"),
    ],
)
def test_mistake_in_the_file_is_named_with_its_place(file: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError) as caught:
        load(file=file)
    assert message in str(caught.value)
    assert "1234567890" not in str(caught.value)


def test_upstream_that_is_played_back_has_no_key_and_misses_none() -> None:
    settings = load(
        environment={"WORK_KEY": "key-1"},
        file={
            "upstreams": {
                "work": {
                    "base_url": "https://work.example/v1",
                    "keys": ["env:WORK_KEY"],
                    "playback": "answers.jsonl",
                },
                "openai": {"playback": "answers.jsonl", "playback_timed": True},
            }
        },
    )
    assert {} == settings.missing_keys
    for upstream in settings.upstreams.values():
        assert ((), "http://playback.invalid/v1") == (upstream.keys, upstream.base_url)
    assert settings.upstreams["openai"].is_playback_timed


def test_upstreams_name_those_that_stand_in_for_them() -> None:
    settings = load(
        environment={"OPENAI_API_KEY": "k"},
        file={
            "upstreams": {
                "work": {
                    "base_url": "https://work.example/v1",
                    "concurrency": 4,
                    "fallbacks": [
                        "openai",
                        {"upstream": "local", "model": "llama3.2", "models": {"large": "qwen3"}},
                    ],
                },
                "local": {"base_url": "http://127.0.0.1:11434/v1", "fallbacks": "work"},
            }
        },
    )
    by_name, mapped = settings.upstreams["work"].fallbacks
    assert ("openai", "large") == (by_name.upstream, by_name.model_for("large"))
    assert ["qwen3", "llama3.2"] == [mapped.model_for(model) for model in ("large", "small")]
    assert "work" == settings.upstreams["local"].fallbacks[0].upstream
    assert 4 == settings.upstreams["work"].concurrency


def test_key_shows_its_last_four_characters_and_no_more() -> None:
    key = Key("sk-canary-0123456789", "OPENAI_API_KEY")
    assert "…6789" == key.hint
    assert (
        "canary" not in f"{key} {key!r} {[key]} {load(environment={'OPENAI_API_KEY': key.value})}"
    )
    assert "…" == Key("short").hint


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "en_US.UTF-8"}, "en"),
        ({"LANG": "C"}, "en"),
    ],
)
def test_language_of_the_terminal(environment: dict[str, str], language: str) -> None:
    assert language == language_of_terminal(environment)
