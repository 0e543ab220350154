"""Editing: a draft is checked with everything else, a save loses nothing of anybody, and what is deleted comes back."""

from __future__ import annotations

from pathlib import Path

import pytest

from rolebook.core.edit import EditConflict, EditService
from rolebook.core.errors import ConflictError, FileError, InputError, NotFoundError
from rolebook.core.merge import MINE_MARK
from rolebook.core.source import Author, DraftError, FileKey, InUseError
from rolebook.wiring import Rolebook
from tests.conftest import TEACHER

ANN = Author("browser", "ann")
TEACHER_KEY = FileKey("persona", "teacher")
CHAT = FileKey("template", "chat")
CHILD = "name: Child\nextends: teacher  # the base\ntags: [b]\n"


@pytest.fixture
def edits(rolebook: Rolebook) -> EditService:
    return rolebook.edits


@pytest.fixture
def personas(library_dir: Path) -> Path:
    return library_dir / "personas"


def save(edits: EditService, key: FileKey, text: str, *, insist: bool = False) -> None:
    """Save over whatever is there."""
    edits.save(key, text, etag=edits.open(key).etag, author=ANN, insist=insist)


def states(edits: EditService) -> dict[str, str]:
    return {str(state.key): state.status for state in edits.files()}


def test_all_files_are_listed_with_their_state(edits: EditService, personas: Path) -> None:
    (personas / "broken.yaml").write_text("name: [\n", "utf-8")
    (personas / "Upper.yaml").write_text("name: x\nsystem: y\n", "utf-8")
    edits.files()
    (personas / "friend.yaml").write_text("name: [\n", "utf-8")
    listed = states(edits)
    assert {"persona broken": "broken", "persona friend": "stale", "persona teacher": "clean"} == {
        name: state for name, state in listed.items() if name.split()[1] in "broken friend teacher"
    }
    assert "clean" == listed["template chat"]
    (stray,) = edits.stray_problems()
    assert stray.file.endswith("Upper.yaml")


def test_file_that_changed_has_another_etag_in_the_list(edits: EditService, personas: Path) -> None:
    opened = edits.open(TEACHER_KEY)
    (personas / "teacher.yaml").write_text(TEACHER + "# x\n", "utf-8")
    listed = {state.key: state.etag for state in edits.files()}
    assert opened.etag != listed[TEACHER_KEY]
    assert edits.open(TEACHER_KEY).etag == listed[TEACHER_KEY]


@pytest.mark.parametrize(
    ("old", "new", "line", "column", "message"),
    [
        ("temperature: 0.7", "temperature: warm", 11, 25, "sampling.temperature must be a number"),
        ("{{ level }}", "{{ levle }}", 7, 55, "There is no 'levle' here. Did you mean 'level'?"),
        ("{{ level }}", "{{ level", 7, 3, "Something is missing in this tag"),
        ("tags: [education]", "tags: [education", 3, 7, ""),
        ("name: Teacher", "name: Teacher\nname: Again", 2, 1, ""),
    ],
)
def test_mistake_in_a_draft_has_its_place(
    edits: EditService, old: str, new: str, line: int, column: int, message: str
) -> None:
    checked = edits.check(TEACHER_KEY, TEACHER.replace(old, new))
    problem = checked.errors[0]
    assert ("personas/teacher.yaml", line, column) == (problem.file, problem.line, problem.column)
    assert message in problem.text
    assert (None, "Teacher") == (checked.resolved, checked.in_use and checked.in_use.persona.name)


def test_draft_of_a_new_persona_is_checked_with_its_base(edits: EditService) -> None:
    checked = edits.check(FileKey("persona", "child"), CHILD)
    assert checked.is_good
    assert checked.resolved
    assert ("Child", ("b",)) == (checked.resolved.persona.name, checked.resolved.persona.tags)
    assert {"temperature": 0.7, "max_tokens": 600} == checked.resolved.persona.parameters
    assert CHILD == checked.resolved.source
    missing = edits.check(FileKey("persona", "child"), CHILD.replace("teacher", "techer"))
    assert "There is no persona 'techer' to extend." in missing.errors[0].text
    assert [2] == [problem.line for problem in missing.errors]


def test_draft_of_a_base_is_checked_with_those_that_extend_it(
    edits: EditService, personas: Path
) -> None:
    (personas / "child.yaml").write_text(CHILD + "system: Say {{ subject }}.\n", "utf-8")
    checked = edits.check(
        TEACHER_KEY,
        TEACHER.replace("  subject: ", "  topic: ").replace("{{ subject }}", "{{ topic }}"),
    )
    assert () == checked.errors
    assert not checked.is_good
    (user,) = checked.users
    assert ("child", True) == (user.id, user.is_changed)
    assert ["personas/child.yaml"] == [problem.file for problem in user.errors]
    assert "There is no 'subject' here" in user.errors[0].text


def test_draft_of_a_template_is_checked_with_the_personas_that_use_it(edits: EditService) -> None:
    text = edits.open(CHAT).text
    checked = edits.check(CHAT, text.replace("{{ input }}", "{{ imput }}"))
    assert {"friend", "plain", "teacher"} == {user.id for user in checked.users}
    (problem,) = checked.errors
    assert ("templates/chat.jinja", "'imput' is undefined") == (
        problem.file,
        problem.parameters["reason"],
    )
    assert all(not user.errors for user in checked.users)
    harmless = edits.check(CHAT, text.replace("{{ system }}", "{{ system }}!"))
    assert harmless.is_good
    assert all(user.is_changed for user in harmless.users)


def test_template_that_nobody_uses_is_checked_with_a_plain_persona(edits: EditService) -> None:
    key = FileKey("template", "mine")
    assert edits.check(key, edits.new_text(key)).is_good
    (problem,) = edits.check(key, "{% message 'king' %}x{% endmessage %}").errors
    assert ("templates/mine.jinja", 1) == (problem.file, problem.line)


def test_new_texts_are_good(edits: EditService) -> None:
    key = FileKey("persona", "mine")
    checked = edits.check(key, edits.new_text(key, name="Mine: 天"))
    assert checked.is_good
    assert "Mine: 天" == edits.resolve(key, edits.new_text(key, name="Mine: 天")).persona.name


def test_draft_resolves_without_being_written(
    rolebook: Rolebook, edits: EditService, personas: Path
) -> None:
    draft = TEACHER.replace("patient", "strict")
    assert "strict" in edits.resolve(TEACHER_KEY, draft).persona.system
    assert "patient" in rolebook.library.get_persona("teacher").persona.system
    assert TEACHER == (personas / "teacher.yaml").read_text("utf-8")
    with pytest.raises(FileError, match="must be a number"):
        edits.resolve(TEACHER_KEY, TEACHER.replace("0.7", "warm"))
    as_teacher = edits.resolve(CHAT, "{% history %}", persona_id="teacher")
    assert ("Teacher", "{% history %}") == (as_teacher.persona.name, as_teacher.templates["chat"])
    with pytest.raises(NotFoundError, match="renders with 'chat'"):
        edits.resolve(CHAT, "{% history %}", persona_id="nobody")


def test_saving_keeps_all_but_what_was_changed(
    rolebook: Rolebook, edits: EditService, personas: Path
) -> None:
    opened = edits.open(TEACHER_KEY)
    # A form sends the ends of lines in its own way.
    text = opened.text.replace("patient", "strict  # really").replace("\n", "\r\n")
    saved = edits.save(TEACHER_KEY, text, etag=opened.etag, author=ANN)
    assert saved.is_changed
    assert TEACHER.replace("patient", "strict  # really") == (personas / "teacher.yaml").read_text()
    assert "strict" in rolebook.library.get_persona("teacher").persona.system
    again = edits.save(TEACHER_KEY, text, etag=saved.source.etag, author=ANN)
    assert (False, saved.source.etag) == (again.is_changed, again.source.etag)


def test_text_with_errors_is_saved_only_if_somebody_insists(
    rolebook: Rolebook, edits: EditService, personas: Path
) -> None:
    bad = TEACHER.replace("0.7", "warm")
    with pytest.raises(DraftError, match="must be a number"):
        save(edits, TEACHER_KEY, bad)
    assert TEACHER == (personas / "teacher.yaml").read_text("utf-8")
    opened = edits.open(TEACHER_KEY)
    saved = edits.save(TEACHER_KEY, bad, etag=opened.etag, author=ANN, insist=True)
    assert saved.checked.in_use
    assert bad == (personas / "teacher.yaml").read_text("utf-8")
    assert 0.7 == rolebook.library.get_persona("teacher").persona.parameters["temperature"]
    assert "stale" == states(edits)["persona teacher"]


def test_second_of_two_tabs_gets_both_versions_and_a_merge(edits: EditService) -> None:
    first = second = edits.open(TEACHER_KEY)
    edits.save(
        TEACHER_KEY, first.text.replace("[education]", "[maths]"), etag=first.etag, author=ANN
    )
    mine = second.text.replace("patient", "strict")
    with pytest.raises(EditConflict) as caught:
        edits.save(TEACHER_KEY, mine, etag=second.etag, author=ANN)
    conflict = caught.value
    assert (mine, TEACHER) == (conflict.mine, conflict.base)
    assert "[maths]" in conflict.theirs.text
    assert conflict.merged.is_clean
    saved = edits.save(TEACHER_KEY, conflict.merged.text, etag=conflict.theirs.etag, author=ANN)
    assert (
        TEACHER.replace("[education]", "[maths]").replace("patient", "strict") == saved.source.text
    )


def test_change_on_disk_while_the_editor_is_open_is_a_conflict(
    edits: EditService, personas: Path
) -> None:
    opened = edits.open(TEACHER_KEY)
    theirs = TEACHER.replace("patient", "kind")
    (personas / "teacher.yaml").write_text(theirs, "utf-8")
    mine = TEACHER.replace("patient", "strict")
    with pytest.raises(EditConflict, match="changed meanwhile") as caught:
        edits.save(TEACHER_KEY, mine, etag=opened.etag, author=ANN)
    assert theirs == (personas / "teacher.yaml").read_text("utf-8")
    merged = caught.value.merged
    assert 1 == merged.conflicts
    checked = edits.check(TEACHER_KEY, merged.text)
    marks = [problem.line for problem in checked.errors if "mark of a merge" in problem.text]
    assert merged.text.splitlines().index(MINE_MARK) + 1 == marks[0]
    same = edits.save(TEACHER_KEY, theirs, etag=opened.etag, author=ANN)
    assert not same.is_changed


def test_deleted_meanwhile_says_how_to_keep_the_text(edits: EditService, personas: Path) -> None:
    opened = edits.open(TEACHER_KEY)
    (personas / "teacher.yaml").unlink()
    with pytest.raises(NotFoundError, match=r"deleted meanwhile\. Save your text as a new file"):
        edits.save(TEACHER_KEY, "name: x\nsystem: y\n", etag=opened.etag, author=ANN)
    edits.save(TEACHER_KEY, "name: x\nsystem: y\n", etag="", author=ANN)
    assert (personas / "teacher.yaml").exists()


def test_file_is_duplicated_with_its_comments(edits: EditService, personas: Path) -> None:
    (personas / "child.yaml").write_text(CHILD, "utf-8")
    edits.duplicate(FileKey("persona", "child"), "copy", author=ANN)
    assert CHILD == (personas / "copy.yaml").read_text("utf-8")
    with pytest.raises(ConflictError, match="already a persona 'copy'"):
        edits.duplicate(FileKey("persona", "child"), "copy", author=ANN)


def test_renaming_tells_who_extends_it_and_carries_them_along(
    rolebook: Rolebook, edits: EditService, personas: Path
) -> None:
    (personas / "child.yaml").write_text(CHILD, "utf-8")
    with pytest.raises(InUseError, match="named by others: child") as caught:
        edits.rename(TEACHER_KEY, "tutor", author=ANN)
    assert (FileKey("persona", "child"),) == caught.value.users
    assert TEACHER == (personas / "teacher.yaml").read_text("utf-8")
    saved = edits.rename(TEACHER_KEY, "tutor", author=ANN, carry=True)
    assert FileKey("persona", "tutor") == saved.key
    assert CHILD.replace("teacher", "tutor") == (personas / "child.yaml").read_text("utf-8")
    assert not (personas / "teacher.yaml").exists()
    assert "Child" == rolebook.library.get_persona("child").persona.name


def test_renaming_that_cannot_be_carried_along_changes_nothing(
    edits: EditService, personas: Path
) -> None:
    (personas / "child.yaml").write_text(CHILD, "utf-8")
    # Written after the child, and with a longer id too large.
    large = CHILD + "#" * (256 * 1024 - len(CHILD))
    (personas / "large.yaml").write_text(large, "utf-8")
    with pytest.raises(InputError, match="at most 262144"):
        edits.rename(TEACHER_KEY, "professor", author=ANN, carry=True)
    assert CHILD == (personas / "child.yaml").read_text("utf-8")
    assert large == (personas / "large.yaml").read_text("utf-8")
    assert not (personas / "professor.yaml").exists()
    assert (personas / "teacher.yaml").exists()


def test_template_is_renamed_with_the_personas_that_name_it(
    rolebook: Rolebook, edits: EditService, personas: Path
) -> None:
    key = FileKey("template", "mine")
    edits.save(key, edits.new_text(key), etag="", author=ANN)
    for id, text in {"one": "template: mine  # !\n", "two": "extends: one\n"}.items():
        (personas / f"{id}.yaml").write_text(f"name: {id}\nsystem: x\n{text}", "utf-8")
    around = FileKey("template", "around")
    including = """\
{% include "mine" %}{#- mine -#}
{%- include 'mine.jinja' ignore missing -%}
{% extends "mine" if input == "mine" else "mine.jinja" %}
{%+ from "mine" import mine with context %}{% import('mine') as mine %}
{% include ["gone", "mine"] %}{%include("mine.jinja", 'chat',)%}{% include mine["mine"] %}{{ "mine" }}
"""
    edits.save(around, including, etag="", author=ANN)
    with pytest.raises(InUseError, match="named by others: one, two, around"):
        edits.rename(key, "ours", author=ANN)
    edits.rename(key, "ours", author=ANN, carry=True)
    ours = """\
{% include "ours" %}{#- mine -#}
{%- include 'ours.jinja' ignore missing -%}
{% extends "ours" if input == "mine" else "ours.jinja" %}
{%+ from "ours" import mine with context %}{% import('ours') as mine %}
{% include ["gone", "ours"] %}{%include("ours.jinja", 'chat',)%}{% include mine["mine"] %}{{ "mine" }}
"""
    assert ours == edits.open(around).text
    assert "name: one\nsystem: x\ntemplate: ours  # !\n" == (personas / "one.yaml").read_text()
    assert "ours" == rolebook.library.get_persona("two").persona.template_name
    with pytest.raises(InputError, match="cannot be changed for you"):
        edits.rename(CHAT, "talk", author=ANN, carry=True)


def test_deleting_tells_who_needs_it(edits: EditService, personas: Path) -> None:
    (personas / "child.yaml").write_text(CHILD, "utf-8")
    with pytest.raises(InUseError, match="needed by others: child"):
        edits.delete(TEACHER_KEY, author=ANN)
    with pytest.raises(InUseError, match="friend, plain, teacher"):
        edits.delete(CHAT, author=ANN)
    trashed = edits.delete(TEACHER_KEY, author=ANN, insist=True)
    assert "stale" == states(edits)["persona child"]
    saved = edits.undelete(trashed.id, author=ANN)
    assert (TEACHER_KEY, TEACHER) == (saved.key, saved.source.text)
    assert "clean" == states(edits)["persona child"]
    assert [] == list(edits.trash())
