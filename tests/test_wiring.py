"""Settings from real files, and the parts put together."""

from __future__ import annotations

from pathlib import Path

import pytest

from rolebook.core.errors import FileError, SettingError
from rolebook.core.source import FileKey
from rolebook.wiring import open_rolebook, read_settings
from tests.core.conftest import CHAT


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_dotenv_is_read_and_the_environment_wins(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        "OPENAI_API_KEY=from-file-${HOME}\nROLEBOOK_PORT=1\n# a comment\nROLEBOOK_HOST='x'\n"
    )
    settings = read_settings(environment={"ROLEBOOK_PORT": "2"})
    assert (2, "x") == (settings.port, settings.host)
    assert ["from-file-${HOME}"] == [key.value for key in settings.upstreams["openai"].keys]


def test_settings_file_is_read_with_places(tmp_path: Path) -> None:
    (tmp_path / "rolebook.yaml").write_text("port: 9000\nupstreams:\n  a:\n    keys: [sk-x]\n")
    with pytest.raises(SettingError) as caught:
        read_settings(environment={})
    assert str(caught.value).startswith("rolebook.yaml:4:12: a key is never written here.")
    (tmp_path / "rolebook.yaml").write_text("port: 9000\nlanguage: zh\nmodel: no\n")
    settings = read_settings(environment={})
    assert (9000, "zh", "no") == (settings.port, settings.language, settings.model)


def test_settings_file_that_is_no_yaml_is_named(tmp_path: Path) -> None:
    (tmp_path / "rolebook.yaml").write_text("port: [\n")
    with pytest.raises(FileError, match=r"rolebook.yaml:"):
        read_settings(environment={})


def test_settings_file_that_was_asked_for_must_be_there() -> None:
    with pytest.raises(SettingError, match=r"no settings file other.yaml"):
        read_settings(environment={}, flags={"config": "other.yaml"})


def test_opening_touches_nothing(tmp_path: Path) -> None:
    rolebook = open_rolebook(environment={})
    assert [] == list(tmp_path.iterdir())
    rolebook.close()


def test_configured_default_model_is_for_the_default_upstream_only(tmp_path: Path) -> None:
    (tmp_path / "rolebook.yaml").write_text(
        "model: mine\nupstreams:\n  a: {base_url: http://127.0.0.1:9/v1}\n"
        "  b: {base_url: http://127.0.0.1:9/v1, model: theirs}\n"
    )
    rolebook = open_rolebook(environment={})
    assert ["a", "b", "rehearsal"] == list(rolebook.upstreams.names)
    assert ("mine", "theirs") == (
        rolebook.upstreams.get("").default_model,
        rolebook.upstreams.get("b").default_model,
    )
    rolebook.close()


def test_check_finds_what_reading_and_what_rendering_finds(tmp_path: Path) -> None:
    (tmp_path / "personas").mkdir()
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "chat.jinja").write_text(
        "{% message 'user' %}{{ input }}{% endmessage %}"
    )
    (tmp_path / "personas" / "a.yaml").write_text("name: A\nsystem: |\n  one\n  {{ nope }}\n")
    (tmp_path / "personas" / "b.yaml").write_text("name: B\nsystem: s\nsampling: {n: 0}\n")
    (tmp_path / "personas" / "c.yaml").write_text("name: C\nsystem: s\ntagss: x\n")
    rolebook = open_rolebook(environment={})
    places = [(p.file, p.line, p.severity) for p in rolebook.find_problems()]
    assert [
        ("personas/a.yaml", 4, "error"),
        ("personas/b.yaml", 3, "error"),
        ("personas/c.yaml", 3, "warning"),
    ] == places
    rolebook.close()


def test_place_of_a_missing_name_is_that_of_editors(tmp_path: Path) -> None:
    (tmp_path / "personas").mkdir()
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "chat.jinja").write_text(
        "{% message 'user' %}{{ system }}{{ input }}{% endmessage %}"
    )
    (tmp_path / "personas" / "a.yaml").write_text(
        "name: A\ndescription: one\u2028two\x85three\nsystem: |\n  one\n  two {{ nope }}\n", "utf-8"
    )
    rolebook = open_rolebook(environment={})
    (problem,) = rolebook.find_problems()
    assert "personas/a.yaml:5:10" == problem.place
    rolebook.close()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "name: A\nextends: nix\nsampling: {temperature: hot}\nsystem: '{{ nope }}'\n"
            "greeting: '{% if %}'\nbogus: 1\n",
            [(2, 10), (3, 25), (5, 12), (6, 1)],
        ),
        ("extends: nix\nvariables: {a: {choices: [x]}}\n", [(1, 10)]),
        ("name: A\nsampling: {temperature: hot}\nsystem: '{{ nope }}'\n", [(2, 25), (3, 13)]),
        ("name: A\ntemplate: nah\nsystem: '{{ nope }}'\n", [(2, 11), (3, 13)]),
        ("name: A\nsystem: '{% if %}'\ngreeting: '{% for %}'\n", [(2, 10), (3, 12)]),
        ("name: A\nsystem: '{{ nope }}'\ngreeting: '{{ nope | uper }}'\n", [(2, 13), (3, 22)]),
        ("name: A\nvariables: {a: {min: x}}\nsystem: '{{ b }}{% if %}'\n", [(2, 22), (3, 10)]),
    ],
    ids=["base", "base-may-have-it", "value", "template", "texts", "name-and-filter", "variable"],
)
def test_no_problem_of_a_file_hides_another_one(
    tmp_path: Path, text: str, expected: list[tuple[int, int]]
) -> None:
    for folder in ("personas", "templates"):
        (tmp_path / folder).mkdir()
    (tmp_path / "templates/chat.jinja").write_text(CHAT)
    (tmp_path / "personas/a.yaml").write_text(text)
    rolebook = open_rolebook(environment={})
    assert expected == [(problem.line, problem.column) for problem in rolebook.find_problems()]
    checked = rolebook.edits.check(FileKey("persona", "a"), text)
    assert expected == [(problem.line, problem.column) for problem in checked.problems]
    rolebook.close()
