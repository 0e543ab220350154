"""`personas new`, `edit`, `rename`, `history` and the others: with an editor of one's own, and nothing thrown away."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Finished, Shell
from tests.conftest import TEACHER

STRICT = TEACHER.replace("patient", "strict")


@pytest.fixture
def path(rehearsing: Shell) -> Path:
    """The file of a persona."""
    return rehearsing.folder / "personas/teacher.yaml"


def editor(folder: Path, *steps: str) -> dict[str, str]:
    """An environment whose editor does one step after the other to the text of the file that it opens."""
    script = folder / "editor.py"
    script.write_text(
        "import sys, pathlib\n"
        "path = pathlib.Path(sys.argv[1]); text = path.read_text('utf-8')\n"
        "count = pathlib.Path(__file__).with_suffix('.count')\n"
        "number = int(count.read_text()) if count.exists() else 0\n"
        "count.write_text(str(number + 1))\n"
        f"exec({list(steps)!r}[number])\n"
        "path.write_text(text, 'utf-8')\n",
        "utf-8",
    )
    return {"EDITOR": f"{sys.executable} {script}"}


def kept_draft(finished: Finished) -> Path:
    found = re.search(r"Your draft is kept in (\S+)\.\n", finished.notices)
    assert found, finished.notices
    return Path(found[1])


def test_edit_saves_what_the_editor_leaves(rehearsing: Shell, path: Path) -> None:
    environment = editor(rehearsing.folder, "text = text.replace('patient', 'strict')")
    done = rehearsing.run(
        "personas", "edit", "teacher", "-m", "They slept.", environment=environment
    )
    assert (0, STRICT) == (done.status, path.read_text("utf-8"))
    newest = rehearsing.run("personas", "history", "teacher", "--json").json[0]
    assert ("saved", "command", "They slept.") == (
        newest["action"],
        newest["via"],
        newest["message"],
    )


def test_edit_without_a_change_saves_nothing(rehearsing: Shell, path: Path) -> None:
    done = rehearsing.run(
        "personas", "edit", "teacher", environment=editor(rehearsing.folder, "pass")
    )
    assert 0 == done.status
    assert "Nothing was changed" in done.notices
    assert TEACHER == path.read_text("utf-8")


def test_mistake_is_shown_and_can_be_mended(rehearsing: Shell, path: Path) -> None:
    environment = editor(
        rehearsing.folder, "text = text.replace('0.7', 'warm')", "text = text.replace('warm', '0')"
    )
    done = rehearsing.run("personas", "edit", "teacher", stdin=b"e\n", environment=environment)
    assert 0 == done.status
    assert "personas/teacher.yaml:11:25: sampling.temperature must be" in done.notices
    assert TEACHER.replace("0.7", "0") == path.read_text("utf-8")


def test_mistake_can_be_saved_or_kept_elsewhere(rehearsing: Shell, path: Path) -> None:
    bad = "text = text.replace('0.7', 'warm')"
    done = rehearsing.run(
        "personas", "edit", "teacher", stdin=b"k\n", environment=editor(rehearsing.folder, bad)
    )
    assert 1 == done.status
    assert TEACHER == path.read_text("utf-8")
    assert TEACHER.replace("0.7", "warm") == kept_draft(done).read_text("utf-8")
    # Where nobody answers, nothing is lost either.
    (rehearsing.folder / "editor.count").unlink()
    silent = rehearsing.run(
        "personas", "edit", "teacher", environment=editor(rehearsing.folder, bad)
    )
    assert 1 == silent.status
    assert kept_draft(silent).exists()
    (rehearsing.folder / "editor.count").unlink()
    saved = rehearsing.run(
        "personas", "edit", "teacher", stdin=b"s\n", environment=editor(rehearsing.folder, bad)
    )
    assert (0, TEACHER.replace("0.7", "warm")) == (saved.status, path.read_text("utf-8"))


def test_change_of_somebody_else_is_merged_and_shown(rehearsing: Shell, path: Path) -> None:
    theirs = TEACHER.replace("[education]", "[maths]")
    environment = editor(
        rehearsing.folder,
        "text = text.replace('patient', 'strict'); "
        f"pathlib.Path({str(path)!r}).write_text({theirs!r}, 'utf-8')",
        "assert '[maths]' in text and 'strict' in text",
    )
    done = rehearsing.run("personas", "edit", "teacher", stdin=b"s\n", environment=environment)
    assert 0 == done.status
    assert "was changed meanwhile" in done.notices
    assert STRICT.replace("[education]", "[maths]") == path.read_text("utf-8")


def test_editor_that_is_not_there_is_told(rehearsing: Shell) -> None:
    done = rehearsing.run(
        "personas", "edit", "teacher", environment={"EDITOR": "/nowhere/an-editor"}
    )
    assert 2 == done.status
    assert "Name another one in VISUAL or EDITOR" in done.notices
    assert kept_draft(done).exists()


def test_persona_lives_through_all_commands(rehearsing: Shell) -> None:
    personas = rehearsing.folder / "personas"
    assert 0 == rehearsing.run("personas", "new", "cook", "--name", "Cook", "--no-edit").status
    assert 2 == rehearsing.run("personas", "new", "Cook", "--no-edit").status
    assert 1 == rehearsing.run("personas", "new", "cook", "--no-edit").status
    assert 0 == rehearsing.run("personas", "duplicate", "cook", "chef").status
    (personas / "baker.yaml").write_text("name: Baker\nextends: cook\n", "utf-8")
    refused = rehearsing.run("personas", "rename", "cook", "boss")
    assert (1, True) == (refused.status, "named by others: baker" in refused.notices)
    assert 0 == rehearsing.run("personas", "rename", "cook", "boss", "--carry").status
    assert "extends: boss" in (personas / "baker.yaml").read_text("utf-8")
    assert 1 == rehearsing.run("personas", "delete", "boss").status
    assert 0 == rehearsing.run("personas", "delete", "boss", "--anyway").status
    assert ["boss"] == [entry["id"] for entry in rehearsing.run("personas", "trash", "--json").json]
    assert 0 == rehearsing.run("personas", "undelete", "boss").status
    assert (personas / "boss.yaml").exists()
    assert ["restored", "deleted", "renamed", "created"] == [
        change["action"] for change in rehearsing.run("personas", "history", "boss", "--json").json
    ]
    assert 2 == rehearsing.run("personas", "history", "nobody").status
    assert 2 == rehearsing.run("personas", "undelete", "nobody").status


def test_versions_are_compared_restored_and_labelled(rehearsing: Shell, path: Path) -> None:
    assert 0 == rehearsing.run("personas", "label", "teacher", "production").status
    path.write_text(STRICT, "utf-8")
    diff = rehearsing.run("personas", "diff", "teacher").text
    assert "-   You are a patient teacher of {{ subject }} for a {{ level }}.\n" in diff
    assert "+   You are a strict teacher of {{ subject }} for a {{ level }}.\n" in diff
    assert diff == rehearsing.run("personas", "diff", "teacher", "production").text
    resolved = rehearsing.run("personas", "diff", "teacher", "production", "--resolved", "--json")
    assert "changed" in [line["kind"] for line in resolved.json]
    changes = rehearsing.run("personas", "history", "teacher", "--json").json
    assert 0 == rehearsing.run("personas", "restore", "teacher", changes[-1]["id"]).status
    assert TEACHER == path.read_text("utf-8")
    (label,) = rehearsing.run("personas", "label", "teacher", "--json").json
    assert ("production", changes[-1]["revision"]) == (label["name"], label["revision"])
    assert 2 == rehearsing.run("personas", "label", "teacher", "production", "ffff").status
    assert 0 == rehearsing.run("personas", "label", "teacher", "production", "--remove").status
    assert [] == rehearsing.run("personas", "label", "teacher", "--json").json


def test_a_former_text_that_is_broken_is_restored_with_anyway(
    rehearsing: Shell, path: Path
) -> None:
    broken = TEACHER.replace("{{ subject }}", "{{ nothing }}")
    path.write_text(broken, "utf-8")
    former = rehearsing.run("personas", "history", "teacher", "--json").json[0]["id"]
    path.write_text(TEACHER, "utf-8")
    refused = rehearsing.run("personas", "restore", "teacher", former)
    assert (2, TEACHER) == (refused.status, path.read_text("utf-8"))
    assert "--anyway" in refused.notices
    assert 0 == rehearsing.run("personas", "restore", "teacher", former, "--anyway").status
    assert broken == path.read_text("utf-8")


def test_templates_have_the_same_commands(rehearsing: Shell) -> None:
    assert "chat" in [entry["id"] for entry in rehearsing.run("templates", "--json").json]
    environment = editor(rehearsing.folder, "text += '{# mine #}'")
    assert 0 == rehearsing.run("templates", "edit", "chat", environment=environment).status
    assert "+ {# mine #}" in rehearsing.run("templates", "diff", "chat").text
    assert ["saved", "seen"] == [
        change["action"] for change in rehearsing.run("templates", "history", "chat", "--json").json
    ]


@pytest.fixture
def labelled(shell: Shell) -> Shell:
    """A shell in which `teacher@production` is patient, and `teacher` is strict."""
    assert 0 == shell.run("personas", "label", "teacher", "production").status
    (shell.folder / "personas/teacher.yaml").write_text(STRICT, "utf-8")
    return shell


@pytest.mark.parametrize(
    "arguments",
    [
        ("render", "{}", "Hi"),
        ("ask", "{}", "Hi"),
        ("chat", "{}"),
        ("compare", "{}", "--input", "Hi"),
        ("personas", "show", "{}"),
    ],
)
def test_reference_stands_wherever_an_id_does(labelled: Shell, arguments: tuple[str, ...]) -> None:
    def run(reference: str) -> Finished:
        return labelled.run(*(a.format(reference) for a in arguments), stdin=b"Hi\n")

    known = run("teacher@production")
    assert 0 == known.status, known.notices
    unknown = run("teacher@staging")
    assert 2 == unknown.status
    assert "no label or revision 'staging'. Its labels: production." in unknown.notices
    if arguments[0] in ("render", "personas"):
        assert "patient" in known.text
        assert "strict" not in known.text


def test_files_are_named_by_what_they_were(labelled: Shell) -> None:
    path = labelled.folder / "personas/teacher.yaml"
    history = labelled.run("personas", "history", "teacher", "--json").json
    begun = labelled.run("personas", "history", "teacher@production", "--json").json
    assert begun == history[-1:]
    assert "+   You are a strict" in labelled.run("personas", "diff", "teacher@production").text
    strict = f"teacher@{history[0]['revision'][:8]}"
    assert "+   You are a patient" in labelled.run("personas", "diff", strict, "production").text
    assert 0 == labelled.run("personas", "duplicate", "teacher@production", "mild").status
    assert TEACHER == path.with_name("mild.yaml").read_text("utf-8")
    assert 0 == labelled.run("personas", "label", strict, "draft").status
    listed = labelled.run("personas", "label", "teacher@production", "--json").json
    assert ["production"] == [label["name"] for label in listed]
    path.unlink()
    assert 0 == labelled.run("personas", "restore", "teacher@production").status
    assert TEACHER == path.read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("history", "teacher@staging"), "no label or revision 'staging'. Its labels: production."),
        (("duplicate", "teacher@staging", "mild"), "no label or revision 'staging'."),
        (("edit", "teacher@production"), "rolebook personas restore teacher@production"),
        (("rename", "teacher@production", "mild"), "name 'teacher' alone"),
        (("delete", "teacher@production"), "name 'teacher' alone"),
        (("history", "teacher@production", "--git"), "name 'teacher' alone"),
        (("label", "teacher@production", "draft", "3f9c"), "name 'teacher' alone"),
        (("diff", "teacher@production", "a", "b"), "names the older version already"),
        (("restore", "teacher@production", "01kajq3m5w8r2c9x0v"), "Name one version"),
        (("restore", "teacher"), "Name one version"),
    ],
)
def test_what_a_reference_cannot_name_here_is_told(
    labelled: Shell, arguments: tuple[str, ...], words: str
) -> None:
    refused = labelled.run("personas", *arguments)
    assert 2 == refused.status
    assert words in refused.notices
    assert STRICT == (labelled.folder / "personas/teacher.yaml").read_text("utf-8")


def test_sessions_are_found_by_the_name_that_they_were_begun_by(labelled: Shell) -> None:
    begun = labelled.run("ask", "teacher@production", "Hi", "--json").json["session_id"]
    labelled.run("ask", "teacher", "Hi")
    found = labelled.run("sessions", "--persona", "teacher@production", "--json").json
    assert [begun] == [session["id"] for session in found]


def test_render_is_shown_again_when_the_file_changes(rehearsing: Shell, path: Path) -> None:
    running = rehearsing.start("render", "teacher", "Hi", "--watch", "--json")
    try:
        for text, word in ((TEACHER, b"patient"), (STRICT, b"strict")):
            path.write_text(text, "utf-8")
            deadline = time.monotonic() + 20
            while word not in running.stdout.readline():
                assert time.monotonic() < deadline
    finally:
        running.terminate()
        running.communicate()
