"""How long the pages of a large comparison take: `python -m benchmarks.comparison_pages [--inputs N] [--rounds N]`.

4 variants by 2,500 inputs are 10,000 cells, each with an answer of about 60 words and a check. They are written
straight into the log, as no server is measured here. As in `benchmarks.pages`, each page is asked for through the
test client and from a real server, and a p95 above its limit fails the run. What is counted under the grid is
fetched by the page when it stands.

A page that is asked for again may have been kept: so one line leafs through the grid, and two lines follow a vote that
another process writes into the log before each request, after which all answers are summed up anew.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

from benchmarks import pages
from benchmarks.pages import Page, measure_application, measure_server
from rolebook.core.check import run_check
from rolebook.core.comparison import Ballot, CellKey, Comparison
from rolebook.core.comparison_spec import parse_spec
from rolebook.core.completion import Choice, Usage
from rolebook.core.judge import answer_of
from rolebook.core.preference import Outcome
from rolebook.core.session import TurnStatus, new_id
from rolebook.storage.comparison_log import SqliteComparisonLog
from rolebook.wiring import Rolebook, open_rolebook

WORDS = "why does the light of an evening turn red when it has crossed so much air".split()  # noqa: SIM905
VARIANTS = 4


def build(book: Rolebook, inputs: int) -> Comparison:
    """A comparison whose every cell has its answer."""
    chance = random.Random(10_000)
    ids = [entry.id for entry in book.library.entries()[:VARIANTS]]
    spec = {
        "question": "Which of four?",
        "variants": ids,
        "inputs": [f"Question {number}: {_words(chance, 8)}?" for number in range(inputs)],
        "checks": [{"max_words": 80}],
    }
    plan = book.compare.plan(parse_spec(spec))
    comparison = book.compare.create(plan)
    log, chat = book.log, book.chat
    for key in comparison.cell_keys():
        session = book.cells.session_of(comparison, key)
        persona = plan.personas[comparison.variants[key.variant].revision]
        text = comparison.inputs[key.input].text
        turn = chat.pending_turn(session, chat.prepare(session, persona, text), text)
        begun = book.comparisons.start_cell(comparison.id, key, session, turn, persona.revision)
        said = _words(chance, chance.randint(20, 100))
        ended = replace(
            begun,
            status=TurnStatus.COMPLETE,
            model="ok",
            choices=(Choice(said, "stop"),),
            usage=Usage(80, len(said) // 4, 80 + len(said) // 4),
            time_to_first_token_ms=chance.uniform(200, 900),
            duration_ms=chance.uniform(900, 4000),
        )
        log.finish_turn(ended, [run_check(comparison.checks[0], answer_of(ended))])
    return comparison


def _words(chance: random.Random, count: int) -> str:
    return " ".join(chance.choices(WORDS, k=count))


def pages_of(comparison: Comparison, vote: Callable[[], object]) -> Sequence[Page]:
    """What is measured."""
    path = f"/comparisons/{comparison.id}"
    return [
        Page("comparison", path, 300),
        Page("comparison, far page", f"{path}?page=50", 300),
        Page("comparison, leafed through", f"{path}?page={{number}}", 300),
        Page("comparison, after a vote", path, 300, before=vote),
        Page("comparison, at a glance", f"{path}?view=matrix", 300),
        Page("a cell", f"{path}/cells/2-1000-1", 300),
        Page("comparisons", "/comparisons", 300),
        Page("evidence, kept", f"{path}/evidence", 1500),
        Page("evidence, after a vote", f"{path}/evidence", 3000, before=vote, most=12),
    ]


def vote_in(log: SqliteComparisonLog, comparison: Comparison, inputs: Iterator[int]) -> None:
    """Say that two answers to the next input are equally good: on the same two nobody votes again."""
    entry = next(inputs)
    left, right = (CellKey(variant, entry, 0) for variant in (0, 1))
    ballot = Ballot(new_id(), comparison.id, left, right)
    log.create_ballot(ballot)
    log.cast_ballot(ballot.id, Outcome.TIE)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--inputs", type=int, default=2_500)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        environment = pages.build(Path(name), personas=40)
        book = open_rolebook(environment=environment)
        comparison = build(book, options.inputs)
        measured = pages_of(comparison, partial(vote_in, book.comparisons, comparison, count()))
        results = measure_application(environment, measured, rounds=options.rounds)
        results += measure_server(environment, measured, rounds=options.rounds)
        book.close()
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
