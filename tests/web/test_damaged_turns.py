"""Other tools may write to the log: whatever stands in a turn, nothing fails inside, and what is lost is named."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from sqlite_utils import Database

from rolebook.core.chat import TurnRequest
from rolebook.core.sandbox import Sandbox
from rolebook.core.session import Session, new_id
from rolebook.storage.schema import migrations
from rolebook.web.app import create_app
from rolebook.wiring import Rolebook, open_rolebook
from tests.cli.conftest import Shell
from tests.conftest import PLAIN, ROOT, TEACHER
from tests.fake_upstream import FakeUpstream
from tests.test_compare import fill, plan

#: What a column may hold whatever it is for, by its type.
VALUES = {
    "INTEGER": ("'odd'", "9e999", "-3", "77"),
    "REAL": ("'odd'", "9e999", "-3"),
    "TEXT": ("'odd'", "X'ff'", "'[{\"a\":3}]'", "'[\"a\"]'"),
    "BLOB": ("'odd'", "X'ff'", "9e999"),
}
NAMED = re.compile(r"(turn|comparison) \S+ in the log is damaged")


def columns() -> Sequence[tuple[str, str]]:
    """All that a row of turns has but its number, by which the test finds it, with their types."""
    with closing(Database(memory=True, execute_plugins=False)) as db:
        migrations.apply(db)
        found = [(column.name, column.type) for column in db["turns"].columns]
        return [(name, kind) for name, kind in found if name != "number"]


@dataclass(frozen=True, slots=True)
class Talked:
    """A log with a session, one turn of which is to be damaged, a comparison with such a turn, and something sound."""

    rolebook: Rolebook
    client: FlaskClient
    shell: Shell
    session_id: str
    turn_id: str
    comparison_id: str
    sound_id: str

    @property
    def lists(self) -> Sequence[str]:
        """What shows more than the session and the comparison, and so goes on without them."""
        return (
            *("/sessions", "/sessions?search=sky", "/comparisons", "/personas/teacher"),
            *("/api/v1/sessions?search=sky", "/api/v1/search?search=sky", "/api/v1/facets"),
            *(f"/sessions/{self.sound_id}", f"/comparisons/new?session={self.sound_id}"),
        )

    @property
    def pages(self) -> Sequence[str]:
        """What shows a turn that is damaged, or a sum over it."""
        session, turn = f"/sessions/{self.session_id}", f"/turns/{self.turn_id}"
        comparison = f"/comparisons/{self.comparison_id}"
        return (
            *(session, f"{turn}/difference", f"{turn}/reply", f"{turn}/request"),
            *(f"/api/v1{session}", f"/api/v1{turn}"),
            *(f"/sessions/export?id={self.session_id}&format={f}" for f in ("json", "md", "csv")),
            *(comparison, f"{comparison}/cells/1-1-1", f"{comparison}/evidence"),
            *(f"/api/v1{comparison}/cells", f"/api/v1{comparison}/results"),
            *(f"{comparison}/export?format={format}" for format in ("json", "html")),
        )

    @property
    def commands(self) -> Sequence[Sequence[str]]:
        return (
            ("sessions", "show", self.session_id),
            ("sessions", "export", "--all", "--format", "csv"),
            ("comparisons", "show", self.comparison_id),
            ("replay", self.session_id, "plain", "--plan"),
        )


@pytest.fixture(scope="module")
def talked(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Talked]:
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "personas").mkdir()
    for name, text in {"teacher": TEACHER, "plain": PLAIN}.items():
        (folder / "personas" / f"{name}.yaml").write_text(text, "utf-8")
    with FakeUpstream() as upstream:
        environment = {
            "OPENAI_BASE_URL": upstream.base_url,
            "ROLEBOOK_MODEL": "ok",
            "ROLEBOOK_PERSONAS": str(folder / "personas"),
            "ROLEBOOK_TEMPLATES": str(ROOT / "templates"),
            "ROLEBOOK_DATABASE": str(folder / "rolebook.db"),
        }
        with closing(open_rolebook(environment=environment, sandbox=sandbox)) as book:
            ids = [say(book, "Why is the sky blue?", "And red?") for _ in range(2)]
            inputs = ["Why is the sky blue?"]
            comparison = plan(book, variants=["teacher", "plain"], inputs=inputs)
            fill(book, comparison)
            turn_id = book.log.session_turns(ids[0])[0].id
            client = create_app(book).test_client()
            shell = Shell(folder, environment, sandbox)
            yield Talked(book, client, shell, ids[0], turn_id, comparison.id, ids[1])


def say(book: Rolebook, *texts: str) -> str:
    """The id of a session in which this was said."""
    session = book.chat.start_session(Session(id=new_id(), persona_id="teacher", revision=""))
    for text in texts:
        list(book.chat.stream_turn(TurnRequest(session.id, text)))
    return session.id


def test_a_session_with_anything_in_a_turn_can_be_removed(talked: Talked) -> None:
    damaged_ids = []
    for column, kind in columns():
        session_id = say(talked.rolebook, "Why is the sky blue?")
        turn_id = talked.rolebook.log.session_turns(session_id)[0].id
        with closing(sqlite3.connect(talked.rolebook.log.path)) as db, db:
            value = VALUES[kind][0]
            db.execute(f"UPDATE turns SET {column} = {value} WHERE id = ?", (turn_id,))
        damaged_ids.append(session_id)
    assert 0 == talked.shell.run("sessions", "delete", *damaged_ids).status
    emptied = talked.shell.run("empty-trash", "--days", "0", "--yes")
    assert 0 == emptied.status, emptied
    assert [] == talked.shell.run("sessions", "--json", "--deleted").json


@contextmanager
def damaged(path: Path, column: str, value: str, *turns: str) -> Iterator[bool]:
    """For a while something else stands in a column of some turns; whether SQLite lets it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        found = f"SELECT number, {column} FROM turns WHERE number IN ({', '.join(turns)})"
        rows = db.execute(found).fetchall()
        try:
            for number, _ in rows:
                db.execute(f"UPDATE turns SET {column} = {value} WHERE number = ?", (number,))
            yield True
        except sqlite3.IntegrityError:
            yield False
        finally:
            for number, old in rows:
                db.execute(f"UPDATE turns SET {column} = ? WHERE number = ?", (old, number))


@pytest.mark.parametrize(("column", "kind"), columns())
def test_whatever_stands_in_a_turn_nothing_fails_inside(
    talked: Talked, column: str, kind: str
) -> None:
    own = f"(SELECT number FROM turns WHERE id = '{talked.turn_id}')"
    cell = "(SELECT min(turns.number) FROM turns JOIN cells ON cells.session = turns.session)"
    numbers = (own,) if column == "id" else (own, cell)
    for value in VALUES[kind]:
        with damaged(talked.rolebook.log.path, column, value, *numbers) as is_damaged:
            if not is_damaged:
                continue
            for address in talked.lists:
                shown = talked.client.get(address, headers={"Accept": "text/html"})
                assert 200 == shown.status_code, (value, address, shown.text)
            for address in talked.pages:
                shown = talked.client.get(address, headers={"Accept": "text/html"})
                # A turn whose id or session is another one now is not there.
                if shown.status_code not in (200, 302, 404):
                    assert 503 == shown.status_code, (value, address, shown.text)
                    assert NAMED.search(shown.text), (value, address, shown.text)
            for command in talked.commands:
                done = talked.shell.run(*command)
                assert done.status == 0 or NAMED.search(done.notices), (value, command, done)
