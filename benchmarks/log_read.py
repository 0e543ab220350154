"""How long the pages of the log take when it is large: lists, filters, search, a session.

A log is built in a temporary folder (in large transactions, some 20 s for 100,000 turns), then each question is
asked over and over, in a mixed order, with other words and values each time.

    python -m benchmarks.log_read [--turns 100000] [--rounds 40] [--folder FOLDER]
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks.log_write import finished, texts, vocabulary
from rolebook.core.message import Message
from rolebook.core.session import Revision, Session, Turn, TurnStatus, new_id
from rolebook.storage import write
from rolebook.storage.connection import transaction
from rolebook.storage.log import SqliteLog
from rolebook.storage.query import SessionFilter
from rolebook.storage.schema import prepare

MODELS = [f"model-{number}" for number in range(8)]
PERSONAS = [f"persona-{number}" for number in range(40)]
TAGS = ["good", "to read", "课堂", "rare"]
CHINESE = (
    "为什么天空是蓝色的因为空气散射光线孩子们喜欢问老师数学历史音乐城市河流朋友明天学习写作阅读旅行"
)


def build(path: Path, turns: int) -> list[str]:
    """A log of so many turns, four to a session on average; every tenth text is Chinese. Returns the sessions' ids."""
    chance, source = random.Random(3), texts(5)
    db = prepare(path, patience_s=5)
    sessions: list[str] = []
    left = turns
    while left:
        with transaction(db):
            for _ in range(200):
                length = min(left, chance.choice([1, 1, 2, 4, 12]))
                left -= length
                sessions.append(_build_session(db, chance, source, length, age=left / turns))
    db.close()
    return sessions


def _build_session(db, chance, source, length: int, *, age: float) -> str:
    # The oldest third used models that nobody uses any more: a filter for one of them has far to look.
    model = chance.choice(MODELS[:2] if age > 2 / 3 else MODELS[2:])
    persona_id = chance.choice(PERSONAS)
    revision = Revision(
        f"{persona_id}-{chance.randrange(5)}", persona_id, {"name": persona_id.title()}, {}
    )
    tags = tuple(tag for tag in TAGS if chance.random() < (0.0005 if tag == "rare" else 0.03))
    session = Session(new_id(), persona_id, revision.id, title=next(source)[:40], tags=tags)
    write.insert_session(db, session, revision)
    messages = [Message("system", f"You are {persona_id}.")]
    for _ in range(length):
        question, answer = (
            (_chinese(chance), _chinese(chance))
            if chance.random() < 0.1
            else (next(source), next(source))
        )
        messages.append(Message("user", question))
        turn = Turn(
            new_id(), session.id, revision.id, question, upstream="openai", model_requested=model
        )
        turn = write.insert_turn(db, replace(turn, messages=tuple(messages)), revision, owner="")
        done = finished(turn, answer)
        write.complete_turn(
            db, done if chance.random() > 0.01 else replace(done, status=TurnStatus.FAILED)
        )
        messages.append(Message("assistant", answer))
    return session.id


def _chinese(chance) -> str:
    return "".join(chance.choices(CHINESE, k=100)) + "。"


def questions(log: SqliteLog, sessions: list[str]) -> dict[str, Callable[[], object]]:
    """What is measured, by name."""
    chance, (words, weights) = random.Random(11), vocabulary()

    def word() -> str:
        return chance.choices(words, cum_weights=weights)[0]

    def listed(**wanted) -> Callable[[], object]:
        return lambda: log.list_sessions(
            SessionFilter(**{key: value() for key, value in wanted.items()})
        )

    def far_page() -> object:
        return log.list_sessions(before=str(chance.randrange(100, len(sessions))))

    def two_characters() -> str:
        start = chance.randrange(len(CHINESE) - 1)
        return CHINESE[start : start + 2]

    return {
        "sessions, first page": log.list_sessions,
        "sessions, any page": far_page,
        "sessions of a persona": listed(persona_id=lambda: chance.choice(PERSONAS)),
        "sessions with a model": listed(model=lambda: chance.choice(MODELS[2:])),
        "sessions with an old model": listed(model=lambda: chance.choice(MODELS[:2])),
        "sessions with a model that is not there": listed(model=lambda: "none"),
        "sessions with a failed turn": listed(status=lambda: "failed"),
        "sessions with a frequent tag": listed(tag=lambda: "good"),
        "sessions with a rare tag": listed(tag=lambda: "rare"),
        "sessions by persona, model and word": listed(
            persona_id=lambda: chance.choice(PERSONAS),
            model=lambda: chance.choice(MODELS),
            search=word,
        ),
        "sessions with the commonest word": listed(search=lambda: words[0]),
        "search for any word": lambda: log.search(word()),
        "search for the commonest word": lambda: log.search(words[0]),
        "search for a rare word": lambda: log.search(chance.choice(words[-2000:])),
        "search for two words": lambda: log.search(f"{word()} {word()}"),
        "search for a phrase": lambda: log.search(f'"{words[0]} {words[1]}"'),
        "search for a beginning": lambda: log.search(f"{word()[:3]}*"),
        "search for two Chinese characters": lambda: log.search(two_characters()),
        "a session's turns": lambda: log.session_turns(chance.choice(sessions)),
        "statistics of a persona": lambda: log.statistics_of_persona(chance.choice(PERSONAS)),
        "facets, counted anew": lambda: SqliteLog(log.path).facets(),
        "facets, as pages ask": log.facets,
        "status": log.database_status,
    }


def main() -> None:
    """Print medians and the slowest, in milliseconds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument(
        "--folder", type=Path, help="where to write; a temporary folder if not given"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder) / "rolebook.db"
        begun = time.perf_counter()
        sessions = build(path, arguments.turns)
        print(
            f"built {arguments.turns} turns in {len(sessions)} sessions in {time.perf_counter() - begun:.0f} s, ",
            end="",
        )
        print(f"{path.stat().st_size / arguments.turns:.0f} bytes a turn")
        log = SqliteLog(path)
        begun = time.perf_counter()
        log.open()
        print(f"opened in {(time.perf_counter() - begun) * 1000:.1f} ms", end=", ")
        begun = time.perf_counter()
        log.database_status(check=True)
        print(f"checked in {(time.perf_counter() - begun) * 1000:.0f} ms")
        asked = questions(log, sessions)
        times: dict[str, list[float]] = {name: [] for name in asked}
        order = [name for name in asked for _ in range(arguments.rounds)]
        random.Random(1).shuffle(order)
        for name in order:
            begun = time.perf_counter()
            asked[name]()
            times[name].append((time.perf_counter() - begun) * 1000)
        for name, spent in times.items():
            print(
                f"{name:42} median {statistics.median(spent):7.2f} ms"
                f"   p95 {statistics.quantiles(spent, n=20)[18]:7.2f} ms"
            )
        log.close()


if __name__ == "__main__":
    main()
