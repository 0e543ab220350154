"""How long it takes to log one turn, beside bare sqlite3 that writes the same rows.

Every turn is logged three times, one after the other, so that all meet the same weather: by SqliteLog; by sqlite3
with the same rows, indexes, settings and two commits; and by sqlite3 with one commit for the whole turn, which is
what a log that writes nothing before the call would do.

    python -m benchmarks.log_write [--turns 1000] [--folder FOLDER]
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

from rolebook.core.completion import Choice, Usage
from rolebook.core.message import Message
from rolebook.core.session import Revision, Session, Turn, TurnStatus, new_id
from rolebook.storage.index import segment
from rolebook.storage.log import SqliteLog

TURNS_IN_A_SESSION = 5
WORDS_IN_A_TEXT = 60
REVISION = Revision(
    "r" * 64, "teacher", {"name": "Teacher", "system": "You are a patient teacher."}, {"chat": "…"}
)


def vocabulary(size: int = 20_000) -> tuple[list[str], list[float]]:
    """Made-up words and how often each is used, by Zipf's law; 5.5 characters with the space."""
    letters = random.Random(7)
    words = [
        "".join(letters.choices("etaoinshrdlucmfwyp", k=letters.randint(2, 7))) for _ in range(size)
    ]
    return words, list(accumulate(1 / rank for rank in range(1, size + 1)))


def texts(seed: int = 1) -> Iterator[str]:
    """Endless texts of sixty words."""
    words, weights = vocabulary()
    chance = random.Random(seed)
    while True:
        yield (
            " ".join(chance.choices(words, cum_weights=weights, k=WORDS_IN_A_TEXT)).capitalize()
            + "."
        )


def finished(turn: Turn, text: str) -> Turn:
    """The turn with an answer as OpenAI's servers send it."""
    usage = {"prompt_tokens": 98, "completion_tokens": 84, "total_tokens": 182}
    details = {
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
    message = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
    return replace(
        turn,
        status=TurnStatus.COMPLETE,
        model="gpt-4o-mini-2024-07-18",
        parameters_sent=turn.parameters_requested,
        choices=(Choice(text, "stop"),),
        usage=Usage(98, 84, 182, 0, 0),
        cost=0.0000651,
        time_to_first_token_ms=412.25,
        duration_ms=1893.5,
        reply={
            "id": f"chatcmpl-{turn.id}",
            "object": "chat.completion",
            "created": 1763672943,
            "model": "gpt-4o-mini-2024-07-18",
            "choices": [
                {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
            ],
            "usage": usage | details,
            "service_tier": "default",
            "system_fingerprint": "fp_560af6e559",
        },
    )


class Conversations:
    """Sessions of a few turns each, with the messages that they would really send."""

    def __init__(self, log: SqliteLog, seed: int = 1) -> None:
        self._log = log
        self._texts = texts(seed)
        self._session = Session(new_id(), "teacher", REVISION.id)
        self._messages: list[Message] = []
        self._turns = TURNS_IN_A_SESSION

    def next_turn(self) -> tuple[Turn, str]:
        """A turn to start and the text that it will get; begins a new session when it is time to."""
        if self._turns == TURNS_IN_A_SESSION:
            self._session = Session(new_id(), "teacher", REVISION.id, title="A session")
            self._log.create_session(self._session, REVISION)
            self._messages = [
                Message("system", "You are a patient teacher of mathematics for a beginner.")
            ]
            self._turns = 0
        self._turns += 1
        question, answer = next(self._texts), next(self._texts)
        self._messages.append(Message("user", question))
        turn = Turn(
            new_id(),
            self._session.id,
            REVISION.id,
            question,
            upstream="openai",
            model_requested="gpt-4o-mini",
            messages=tuple(self._messages),
            parameters_requested={"temperature": 0.7, "max_tokens": 600},
        )
        self._messages.append(Message("assistant", answer))
        return turn, answer


class RawLog:
    """What SqliteLog has written for a turn, written again by bare sqlite3 with everything computed beforehand."""

    def __init__(self, source: sqlite3.Connection, path: Path) -> None:
        self._source = source
        self._db = sqlite3.connect(path, isolation_level=None)
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "foreign_keys = ON",
            f"journal_size_limit = {4 << 20}",
        ):
            self._db.execute(f"PRAGMA {pragma}")
        for (sql,) in source.execute(
            "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'turn_search_%'"
        ):
            if not sql.startswith("CREATE TABLE sqlite_"):
                self._db.execute(sql)
        self._columns = [row[1] for row in source.execute("PRAGMA table_info(turns)")]
        self._begun = {column: i for i, column in enumerate(self._columns)}
        self._message_number = 0
        self._copied_sessions = 0

    def prepare(self, number: int, *, commits: int) -> Callable[[], None]:
        """What writes the turn of this number."""
        final = list(
            self._source.execute("SELECT * FROM turns WHERE number = ?", (number,)).fetchone()
        )
        self._copy_session(final[self._begun["session"]])
        pending = list(final)
        for column in (
            "model",
            "text",
            "reply",
            "finish_reason",
            "parameters_sent",
            "prompt_tokens",
            "completion_tokens",
        ):
            pending[self._begun[column]] = "" if column == "model" else None
        pending[self._begun["status"]] = "pending"
        messages = self._source.execute(
            "SELECT * FROM messages WHERE number > ?", (self._message_number,)
        ).fetchall()
        self._message_number = messages[-1][0]
        entry = (
            number,
            segment(final[self._begun["input"]]),
            segment(final[self._begun["text"]]),
            "",
        )
        answer = self._columns[self._columns.index("status") :]
        update = (
            f"UPDATE turns SET {', '.join(f'{column} = ?' for column in answer)} WHERE number = ?"
        )
        activity = (number, final[self._begun["created_at"]], final[self._begun["session"]])

        def write() -> None:
            execute = self._db.execute
            execute("BEGIN IMMEDIATE")
            execute(f"INSERT INTO turns VALUES ({', '.join('?' * len(pending))})", pending)
            self._db.executemany("INSERT INTO messages VALUES (?, ?, ?, ?, ?)", messages)
            execute("UPDATE sessions SET activity = ?, used_at = ? WHERE number = ?", activity)
            if commits == 2:
                execute("COMMIT")
                execute("BEGIN IMMEDIATE")
            execute(update, [*final[self._columns.index("status") :], number])
            execute(
                "INSERT INTO turn_search (rowid, input, text, title) VALUES (?, ?, ?, ?)", entry
            )
            execute("COMMIT")

        return write

    def _copy_session(self, number: int) -> None:
        if number == self._copied_sessions:
            return
        for table in ("revisions", "sessions"):
            for row in self._source.execute(
                f"SELECT * FROM {table} WHERE number = ?", (number if table == "sessions" else 1,)
            ):
                self._db.execute(
                    f"INSERT OR IGNORE INTO {table} VALUES ({', '.join('?' * len(row))})", row
                )
        self._copied_sessions = number


def timed_us(action: Callable[[], object]) -> float:
    """How long an action takes, in microseconds."""
    begun = time.perf_counter()
    action()
    return (time.perf_counter() - begun) * 1e6


def logged_us(log: SqliteLog, turn: Turn, answer: str) -> float:
    """How long the log takes to record the start and the end of a turn, without making the answer."""
    begun = time.perf_counter()
    started = log.start_turn(turn, REVISION)
    paused = time.perf_counter()
    ended = finished(started, answer)
    resumed = time.perf_counter()
    log.finish_turn(ended)
    return (time.perf_counter() - resumed + paused - begun) * 1e6


def measure(turns: int, folder: Path) -> dict[str, list[float]]:
    """Microseconds a turn, for each of the three."""
    log = SqliteLog(folder / "rolebook.db")
    conversations = Conversations(log)
    log.open()
    source = sqlite3.connect(folder / "rolebook.db")
    two, one = RawLog(source, folder / "two.db"), RawLog(source, folder / "one.db")
    results: dict[str, list[float]] = {
        "SqliteLog": [],
        "sqlite3, same commits": [],
        "sqlite3, one commit": [],
    }
    for number in range(1, turns + 1):
        turn, answer = conversations.next_turn()
        # A fresh turn is the first to be written, so that the others can copy it; who follows whom takes turns.
        results["SqliteLog"].append(logged_us(log, turn, answer))
        others = [("sqlite3, same commits", two, 2), ("sqlite3, one commit", one, 1)]
        for name, raw, commits in others if number % 2 else reversed(others):
            results[name].append(timed_us(raw.prepare(number, commits=commits)))
    log.close()
    return results


def database_size(path: Path) -> int:
    """Bytes of all pages, also those that are still in the write-ahead log."""
    with sqlite3.connect(path) as connection:
        pages, page_size = (
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "page_size")
        )
    connection.close()
    return int(pages * page_size)


def main() -> None:
    """Print medians, ratios and the size of a turn."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=1000)
    parser.add_argument(
        "--folder", type=Path, help="where to write; a temporary folder if not given"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        results = measure(arguments.turns, Path(folder))
        SqliteLog(Path(folder) / "empty.db").database_status()
        empty, full = (database_size(Path(folder) / name) for name in ("empty.db", "rolebook.db"))
        size = (full - empty) / arguments.turns
    ours = statistics.median(results["SqliteLog"])
    print(
        f"one logged turn, searchable, synchronous FULL: medians of {arguments.turns} turns, alternating"
    )
    for name, times in results.items():
        quantiles = statistics.quantiles(times, n=100)
        median = statistics.median(times)
        print(
            f"{name:24} {median:8.0f} us   p95 {quantiles[94]:8.0f} us   SqliteLog is {ours / median:.2f} times that"
        )
    print(
        f"size of a turn (two texts of {WORDS_IN_A_TEXT} words, {TURNS_IN_A_SESSION} turns a session): {size:.0f} bytes"
    )


if __name__ == "__main__":
    main()
