"""Every text that a file ever had is kept, with what it made, who wrote it and why; labels point at some of them."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from rolebook.core.chat import TurnEnded, TurnRequest
from rolebook.core.edit import EditConflict, EditService
from rolebook.core.errors import InputError, NotFoundError, RolebookError
from rolebook.core.history import Change
from rolebook.core.session import Session, Turn, new_id
from rolebook.core.source import Author, FileKey
from rolebook.storage.query import SessionFilter
from rolebook.wiring import Rolebook
from tests.conftest import TEACHER, MakeRolebook

ANN = Author("browser", "ann")
KEY = FileKey("persona", "teacher")
CHAT = FileKey("template", "chat")
CHILD = "name: Child\nextends: teacher\n"
STRICT = TEACHER.replace("patient", "strict")


@pytest.fixture
def edits(rolebook: Rolebook) -> EditService:
    return rolebook.edits


@pytest.fixture
def path(library_dir: Path) -> Path:
    """The file of the persona."""
    return library_dir / "personas/teacher.yaml"


def save(edits: EditService, text: str, key: FileKey = KEY, message: str = "") -> None:
    edits.save(key, text, etag=edits.open(key).etag, author=ANN, message=message)


def told(edits: EditService, key: FileKey = KEY) -> list[tuple[str, str, str]]:
    """What the history of a file says, the newest first."""
    return [(c.action, c.author.via, c.author.name) for c in edits.history(key).changes]


def newest(edits: EditService, key: FileKey = KEY) -> Change:
    return edits.history(key).changes[0]


def ask(rolebook: Rolebook, persona: str, resolved=None) -> Turn:
    session = Session(id=new_id(), persona_id=persona, revision="", model="ok")
    return go_on(rolebook, rolebook.chat.start_session(session, resolved=resolved))


def go_on(rolebook: Rolebook, session: Session) -> Turn:
    *_, ended = rolebook.chat.stream_turn(TurnRequest(session.id, "Hi"))
    assert isinstance(ended, TurnEnded)
    return ended.turn


def test_what_is_on_disk_at_first_begins_the_history(
    rolebook: Rolebook, edits: EditService
) -> None:
    change = newest(edits)
    assert ("seen", Author("disk"), True) == (change.action, change.author, change.is_current)
    assert rolebook.library.get_persona("teacher").revision.id == change.revision
    assert TEACHER == edits.source_at(KEY, change.id)
    assert [("seen", "disk", "")] == told(edits, CHAT)


def test_save_is_told_with_its_author_and_message(edits: EditService) -> None:
    save(edits, STRICT, message="They did\nnot work.")
    save(edits, STRICT)
    first, second = edits.history(KEY).changes
    assert [("saved", "browser", "ann"), ("seen", "disk", "")] == told(edits)
    assert ("They did not work.", True) == (first.message, first.is_current)
    assert first.revision != second.revision
    assert STRICT == edits.source_at(KEY, first.id)


def test_changes_on_disk_are_noticed_and_kept(edits: EditService, path: Path) -> None:
    edits.history(KEY)
    path.write_text(STRICT, "utf-8")
    edits.history(KEY)
    path.write_text("name: [\n", "utf-8")
    edits.history(KEY)
    path.write_text(TEACHER, "utf-8")
    changes = edits.history(KEY).changes
    assert ["seen"] * 4 == [change.action for change in changes]
    assert [TEACHER, "name: [\n", STRICT, TEACHER] == [
        edits.source_at(KEY, change.id) for change in changes
    ]
    assert "" == changes[1].revision
    assert [True, False, False, False] == [change.is_current for change in changes]


def test_change_of_a_comment_alone_is_a_change_at_the_same_revision(
    edits: EditService, path: Path
) -> None:
    edits.history(KEY)
    path.write_text(TEACHER + "# why\n", "utf-8")
    after, before = edits.history(KEY).changes
    assert before.revision == after.revision
    assert before.source != after.source


def test_changes_while_nothing_ran_are_noticed_at_the_next_start(
    make_rolebook: MakeRolebook, path: Path
) -> None:
    told(make_rolebook().edits)
    path.write_text(STRICT, "utf-8")
    path.with_name("plain.yaml").unlink()
    again = make_rolebook().edits
    assert [("seen", "disk", "")] * 2 == told(again)
    assert ["deleted", "seen"] == [
        change.action for change in again.history(FileKey("persona", "plain")).changes
    ]


def test_folder_that_is_not_there_deletes_nothing(
    make_rolebook: MakeRolebook, library_dir: Path
) -> None:
    told(make_rolebook().edits)
    elsewhere = make_rolebook(personas=str(library_dir / "nowhere"))
    assert [("seen", "disk", "")] == told(elsewhere.edits)


def test_change_of_a_template_tells_why_the_persona_is_another(
    edits: EditService, path: Path
) -> None:
    path.with_name("child.yaml").write_text(CHILD, "utf-8")
    edits.history(KEY)
    text = edits.open(CHAT).text
    save(edits, text.replace("{{ system }}", "{{ system }}!"), CHAT)
    change = newest(edits)
    assert ("followed", (CHAT,), True) == (change.action, change.causes, change.is_current)
    save(edits, STRICT)
    child = newest(edits, FileKey("persona", "child"))
    assert ("followed", (KEY,)) == (child.action, child.causes)
    assert [("saved", "browser", "ann"), ("seen", "disk", "")] == told(edits, CHAT)


def test_revision_of_a_turn_is_known_with_its_source_though_nobody_looked(
    rolebook: Rolebook, path: Path
) -> None:
    turn = ask(rolebook, "teacher")
    path.write_text(STRICT, "utf-8")
    path.unlink()
    (gone, used) = rolebook.edits.history(KEY).changes
    assert ("deleted", "seen", turn.revision, 1) == (
        gone.action,
        used.action,
        used.revision,
        used.sessions,
    )
    assert TEACHER == rolebook.edits.source_at(KEY, used.id)


def test_sessions_of_a_revision_are_counted_and_found(rolebook: Rolebook) -> None:
    edits = rolebook.edits
    old = ask(rolebook, "teacher")
    ask(rolebook, "teacher")
    save(edits, STRICT)
    new = ask(rolebook, "teacher")
    assert [1, 2] == [change.sessions for change in edits.history(KEY).changes]
    found = rolebook.log.list_sessions(SessionFilter(persona_id="teacher", revision=new.revision))
    assert [new.session_id] == [summary.session.id for summary in found.summaries]
    both = rolebook.log.list_sessions(SessionFilter(revision=old.revision))
    assert 2 == len(both.summaries)


def test_save_of_another_process_is_not_taken_for_a_strangers(
    make_rolebook: MakeRolebook, path: Path
) -> None:
    here, there = make_rolebook().edits, make_rolebook().edits
    told(here)
    told(there)
    save(here, STRICT)
    assert [("saved", "browser", "ann"), ("seen", "disk", "")] == told(there) == told(here)


def test_who_says_later_that_they_saved_is_believed(rolebook: Rolebook, path: Path) -> None:
    """Another process may see the file before the one that saved it has told the log."""
    edits = rolebook.edits
    opened = edits.open(KEY)
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            rolebook.recorder.record()

    other = threading.Thread(target=look)
    other.start()
    etag = opened.etag
    for number in range(10):
        saved = edits.save(KEY, f"{TEACHER}# {number}\n", etag=etag, author=ANN)
        etag = saved.source.etag
    stop.set()
    other.join()
    assert [("saved", "browser", "ann")] * 10 + [("seen", "disk", "")] == told(edits)


def test_history_goes_on_after_renaming_and_duplicating_tells_from_what(
    edits: EditService,
) -> None:
    save(edits, STRICT)
    edits.set_label("teacher", "production", author=ANN)
    edits.rename(KEY, "tutor", author=ANN)
    tutor = FileKey("persona", "tutor")
    edits.duplicate(tutor, "coach", author=ANN)
    changes = edits.history(tutor).changes
    assert ["renamed", "labelled", "saved", "seen"] == [change.action for change in changes]
    assert "teacher" == changes[0].former
    assert STRICT == edits.source_at(tutor, changes[2].id)
    assert ["production"] == [label.name for label in edits.labels("tutor")]
    gone = newest(edits)
    assert ("deleted", (tutor,)) == (gone.action, gone.causes)
    coach = newest(edits, FileKey("persona", "coach"))
    assert ("created", "tutor", changes[0].revision) == (coach.action, coach.former, coach.revision)


def test_a_file_that_got_another_name_on_disk_keeps_its_history(
    rolebook: Rolebook, edits: EditService, path: Path
) -> None:
    save(edits, STRICT)
    edits.set_label("teacher", "production", author=ANN)
    path.rename(path.with_name("tutor.yaml"))
    tutor = FileKey("persona", "tutor")
    changes = edits.history(tutor).changes
    assert ["renamed", "labelled", "saved", "seen"] == [change.action for change in changes]
    assert ("teacher", Author("disk")) == (changes[0].former, changes[0].author)
    gone = newest(edits)
    assert ("deleted", (tutor,)) == (gone.action, gone.causes)
    assert ["production"] == [label.name for label in edits.labels("tutor")]
    first = rolebook.find_persona(f"tutor@{changes[-1].revision[:8]}")
    assert ("tutor", True) == (first.persona.id, "patient" in first.persona.system)


def test_of_two_new_files_with_the_text_of_one_that_is_gone_none_was_it(
    edits: EditService, path: Path
) -> None:
    edits.history(KEY)
    path.rename(path.with_name("tutor.yaml"))
    path.with_name("coach.yaml").write_text(TEACHER, "utf-8")
    for name in ("tutor", "coach"):
        assert [("seen", "disk", "")] == told(edits, FileKey("persona", name))


def test_sessions_of_a_revision_are_counted_under_the_id_that_they_had(
    rolebook: Rolebook, edits: EditService
) -> None:
    ask(rolebook, "teacher")
    edits.rename(KEY, "tutor", author=ANN)
    for _ in range(2):
        ask(rolebook, "tutor")
    renamed, first = edits.history(FileKey("persona", "tutor")).changes
    assert [("tutor", 2), ("teacher", 1)] == [(c.key.id, c.sessions) for c in (renamed, first)]


def test_what_another_file_did_later_under_a_former_id_is_not_its_own(
    rolebook: Rolebook, edits: EditService, path: Path
) -> None:
    own = ask(rolebook, "teacher")
    edits.rename(KEY, "tutor", author=ANN)
    path.write_text(STRICT, "utf-8")
    others = ask(rolebook, "teacher")
    assert [own.id] == [turn.id for turn in rolebook.comparisons.recent_turns("tutor", 9)]
    theirs = others.revision
    assert theirs in rolebook.comparisons.revision_times("teacher")
    assert theirs not in rolebook.comparisons.revision_times("tutor")
    with pytest.raises(NotFoundError):
        rolebook.find_persona(f"tutor@{theirs[:8]}")


def test_what_another_persona_was_under_a_name_is_no_edit_of_the_one_that_has_it_now(
    rolebook: Rolebook, edits: EditService, path: Path
) -> None:
    first = ask(rolebook, "teacher")
    edits.rename(KEY, "coach", author=ANN)
    assert [first.id] == [turn.id for turn in rolebook.comparisons.recent_turns("teacher", 9)]
    path.with_name("strict.yaml").write_text(STRICT, "utf-8")
    strict = ask(rolebook, "strict")
    edits.rename(FileKey("persona", "strict"), "teacher", author=ANN)
    second = ask(rolebook, "teacher")
    found = rolebook.comparisons.recent_turns("teacher", 9)
    assert [strict.id, second.id] == [turn.id for turn in found]
    assert rolebook.comparisons.former_revision("teacher", second.revision) is None
    edits.rename(FileKey("persona", "teacher"), "strict", author=ANN)
    edits.rename(FileKey("persona", "coach"), "teacher", author=ANN)
    found = rolebook.comparisons.recent_turns("teacher", 9)
    assert [first.id] == [turn.id for turn in found]


def test_deleting_and_taking_out_of_the_trash_is_told(edits: EditService) -> None:
    trashed = edits.delete(KEY, author=ANN)
    assert ("deleted", "") == (newest(edits).action, newest(edits).revision)
    edits.undelete(trashed.id, author=ANN)
    assert ["restored", "deleted"] == [change.action for change in edits.history(KEY).changes]
    assert newest(edits).is_current


def test_text_of_old_is_restored_as_a_new_save(edits: EditService, path: Path) -> None:
    first = newest(edits)
    save(edits, STRICT)
    edits.restore(KEY, first.id, author=ANN, message="Back.")
    assert TEACHER == path.read_text("utf-8")
    change = newest(edits)
    assert ("restored", "Back.", first.revision) == (change.action, change.message, change.revision)
    with pytest.raises(EditConflict):
        edits.restore(KEY, edits.history(KEY).changes[1].id, author=ANN, etag="x" * 32)
    path.unlink()
    edits.restore(KEY, first.id, author=ANN)
    assert TEACHER == path.read_text("utf-8")


def test_history_is_read_page_by_page(edits: EditService) -> None:
    for number in range(5):
        save(edits, f"{TEACHER}# {number}\n")
    first = edits.history(KEY, limit=4)
    rest = edits.history(KEY, limit=4, before=first.next)
    assert (4, 2, "") == (len(first.changes), len(rest.changes), rest.next)
    assert [True] + [False] * 5 == [c.is_current for c in (*first.changes, *rest.changes)]
    everything = edits.history(KEY).changes
    assert list(everything) == [*first.changes, *rest.changes]


@pytest.mark.parametrize("change_id", ["", "x", "01kajq3m5w8r2c9x0v"])
def test_unknown_change_is_told(edits: EditService, change_id: str) -> None:
    with pytest.raises(NotFoundError, match="has no change"):
        edits.source_at(KEY, change_id)


def test_two_versions_are_laid_side_by_side(edits: EditService) -> None:
    old = newest(edits)
    edits.set_label("teacher", "production", author=ANN)
    save(edits, STRICT + "# why\n")
    for at in (old.id, "production", old.revision[:6]):
        difference = edits.difference(KEY, at)
        assert difference.source
        assert difference.resolved
        assert [
            ("changed", "  You are a strict teacher of {{ subject }} for a {{ level }}.\n"),
            ("added", "# why\n"),
        ] == [(line.kind, line.new) for line in difference.source if line.kind != "same"]
        assert 1 == sum(line.kind != "same" for line in difference.resolved)
    assert None is edits.difference(CHAT, newest(edits, CHAT).id).resolved


def test_label_points_at_what_the_file_was_and_can_be_moved(
    rolebook: Rolebook, edits: EditService
) -> None:
    edits.set_label("teacher", "production", author=ANN)
    old = rolebook.library.get_persona("teacher")
    save(edits, STRICT)
    assert old.persona == rolebook.find_persona("teacher@production").persona
    changes = edits.history(KEY).changes
    assert ["saved", "labelled", "seen"] == [change.action for change in changes]
    assert [(), ("production",), ("production",)] == [change.labels for change in changes]
    edits.set_label("teacher", "draft", "production", author=ANN)
    edits.set_label("teacher", "production", changes[0].revision[:5], author=ANN)
    assert "strict" in rolebook.find_persona("teacher@production").persona.system
    assert old.persona == rolebook.find_persona("teacher@draft").persona
    edits.remove_label("teacher", "draft", author=ANN)
    assert ["production"] == [label.name for label in edits.labels("teacher")]
    with pytest.raises(NotFoundError, match=r"no label 'draft'. Its labels: production"):
        edits.remove_label("teacher", "draft", author=ANN)


@pytest.mark.parametrize(
    "name", ["", "Production", "a b", "@", "3f9c", "deadbeef", "-x", "x" * 33, "a/b"]
)
def test_what_makes_no_label_is_refused(edits: EditService, name: str) -> None:
    with pytest.raises(InputError, match="makes no label"):
        edits.set_label("teacher", name, author=ANN)


def test_reference_holds_when_the_file_is_gone(
    rolebook: Rolebook, edits: EditService, path: Path, library_dir: Path
) -> None:
    save(edits, STRICT)
    edits.set_label("teacher", "production", author=ANN)
    before = rolebook.find_persona("teacher")
    edits.delete(KEY, author=ANN)
    (library_dir / "templates/chat.jinja").write_text("{% history %}", "utf-8")
    after = rolebook.find_persona("teacher@production")
    assert (before.revision.id, before.templates) == (after.revision.id, after.templates)
    with pytest.raises(NotFoundError, match="no persona 'teacher'"):
        rolebook.find_persona("teacher")


@pytest.mark.parametrize(
    ("reference", "kind", "message"),
    [
        (
            "teacher@staging",
            NotFoundError,
            "no label or revision 'staging'. Its labels: production.",
        ),
        ("teacher@ffff", NotFoundError, "Its newest revisions: "),
        ("teacher@fff", NotFoundError, "no label or revision 'fff'"),
        ("nobody@production", NotFoundError, "Its labels: –"),
        ("nobody", NotFoundError, "There is no persona 'nobody'"),
    ],
)
def test_unknown_reference_tells_what_there_is(
    rolebook: Rolebook, edits: EditService, reference: str, kind: type[RolebookError], message: str
) -> None:
    edits.set_label("teacher", "production", author=ANN)
    with pytest.raises(kind) as caught:
        rolebook.find_persona(reference)
    assert message in str(caught.value)


def test_two_personas_with_one_text_have_each_their_own_references(
    rolebook: Rolebook, edits: EditService
) -> None:
    edits.duplicate(KEY, "copy", author=ANN)
    edits.history(KEY)
    revision = rolebook.find_persona("copy").revision.id
    assert rolebook.find_persona("teacher").revision.id == revision
    for id in ("teacher", "copy"):
        assert id == rolebook.find_persona(f"{id}@{revision[:6]}").persona.id
    edits.set_label("copy", "mine", author=ANN)
    with pytest.raises(NotFoundError):
        rolebook.find_persona("teacher@mine")


def test_session_begun_by_a_label_stays_with_what_it_meant(
    rolebook: Rolebook, edits: EditService, path: Path
) -> None:
    edits.set_label("teacher", "production", author=ANN)
    turn = ask(rolebook, "teacher@production")
    session = rolebook.log.get_session(turn.session_id)
    assert ("teacher", "production") == (session.persona_id, session.pin)
    save(edits, STRICT)
    edits.set_label("teacher", "production", author=ANN)
    path.unlink()
    again = go_on(rolebook, session)
    assert turn.revision == again.revision
    assert "patient" in again.messages[0].content


def test_draft_is_tried_without_being_saved(
    rolebook: Rolebook, edits: EditService, path: Path
) -> None:
    draft = edits.resolve(KEY, STRICT)
    session = edits.start_draft(draft, Session(id=new_id(), persona_id="", revision="", model="ok"))
    turn = go_on(rolebook, session)
    assert "strict" in turn.messages[0].content
    assert TEACHER == path.read_text("utf-8")
    assert "strict" in go_on(rolebook, rolebook.log.get_session(session.id)).messages[0].content
    changes = edits.history(KEY).changes
    tried = next(change for change in changes if change.action == "tried")
    assert (turn.revision, 1, False) == (tried.revision, tried.sessions, tried.is_current)
    assert STRICT == edits.source_at(KEY, tried.id)
    assert {"tried", "seen"} == {change.action for change in changes}
    save(edits, STRICT)
    assert (turn.revision, True) == (newest(edits).revision, newest(edits).is_current)


def test_draft_that_is_no_other_is_no_draft(rolebook: Rolebook, edits: EditService) -> None:
    told(edits)
    edits.start_draft(
        edits.resolve(KEY, TEACHER), Session(id=new_id(), persona_id="", revision="", model="ok")
    )
    assert [("seen", "disk", "")] == told(edits)


def test_changes_are_recorded_soon_while_nobody_looks(rolebook: Rolebook, path: Path) -> None:
    rolebook.recorder.start()
    try:
        for text in (TEACHER, STRICT):
            path.write_text(text, "utf-8")
            deadline = time.monotonic() + 20
            while not (changes := rolebook.history.timeline(KEY).changes) or text != (
                rolebook.history.get_source(changes[0].source)
            ):
                assert time.monotonic() < deadline
                time.sleep(0.05)
        assert ["seen", "seen"] == [change.action for change in changes]
    finally:
        rolebook.recorder.close()


def test_log_that_cannot_be_written_does_not_keep_anybody_from_saving(
    rolebook: Rolebook, edits: EditService, path: Path, library_dir: Path
) -> None:
    opened = edits.open(KEY)
    database = rolebook.log.path
    rolebook.log.close()
    database.rename(database.with_suffix(".away"))
    database.write_bytes(b"no database at all, but long enough to be looked at" * 100)
    saved = edits.save(KEY, STRICT, etag=opened.etag, author=ANN)
    assert saved.is_changed
    assert STRICT == path.read_text("utf-8")
    database.unlink()
    database.with_suffix(".away").rename(database)
    assert ["seen", "seen"] == [change.action for change in edits.history(KEY).changes]
