"""The trash is emptied: what was deleted is gone for good, what others still show is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from rolebook.core.comparison import Ballot, CellStatus, Comparison
from rolebook.core.preference import Outcome
from rolebook.core.session import new_id
from rolebook.wiring import Rolebook
from tests.fake_upstream import FakeUpstream
from tests.judging import GENTLE, add_checks, add_judge
from tests.test_compare import cells_of, fill, plan, talk

LATER = "3000-01-01"


def content_of(rolebook: Rolebook) -> str:
    """Every byte of the log's file, its write-ahead log included."""
    rolebook.log.close()
    folder = rolebook.settings.database.parent
    return "".join(
        path.read_bytes().decode("latin-1") for path in sorted(folder.iterdir()) if path.is_file()
    )


def test_a_comparison_goes_with_its_answers_votes_and_judgements(
    rolebook: Rolebook, library_dir: Path
) -> None:
    add_judge(library_dir)
    kept = plan(rolebook, variants=["plain"], inputs=["What stays?"])
    fill(rolebook, kept)
    gone = plan(
        rolebook,
        variants=["plain", "teacher"],
        inputs=["A secret question"],
        checks=[{"contains": "secret"}, {"rubric": "Is it kind?"}],
        judge={"persona": "judge", "model": "ok"},
    )
    fill(rolebook, gone)
    rolebook.comparisons.delete_comparisons([gone.id])
    assert (0, 0, 0, 0, 0) == rolebook.log.purge_deleted("2000-01-01")
    # Two cells, each with the session of its judge.
    assert (0, 1, 4, 0, 0) == rolebook.log.purge_deleted(LATER)
    assert (0, 0, 0, 0, 0) == rolebook.log.purge_deleted(LATER)
    assert [kept.id] == [
        summary.comparison.id for summary in rolebook.comparisons.list_comparisons()[0]
    ]
    assert ["Echo: What stays?"] == [
        turn.text for cell in cells_of(rolebook, kept).values() for turn in cell.turns
    ]
    assert () == rolebook.log.database_status(check=True).problems
    assert "ecret" not in content_of(rolebook)


def test_answers_that_a_comparison_shows_outlive_their_session(rolebook: Rolebook) -> None:
    turns = talk(rolebook, "plain", "What is shown?")
    comparison = plan(rolebook, variants=["plain"], inputs=[{"session": turns[0].session_id}])
    fill(rolebook, comparison)
    recorded = {key: cell.turns[0].text for key, cell in cells_of(rolebook, comparison).items()}
    rolebook.log.delete([turns[0].session_id])
    assert (1, 0, 0, 0, 0) == rolebook.log.purge_deleted(LATER)
    assert recorded == {
        key: cell.turns[0].text for key, cell in cells_of(rolebook, comparison).items()
    }
    rolebook.comparisons.delete_comparisons([comparison.id])
    assert (0, 1, 1, 0, 0) == rolebook.log.purge_deleted(LATER)
    assert "is shown" not in content_of(rolebook)


@pytest.mark.parametrize("turns", [["Why is the sky blue?"], ["Why?", "And then?"]])
def test_votes_on_answers_that_are_removed_do_not_count_for_new_ones(
    rolebook: Rolebook, turns: list[str]
) -> None:
    comparison = plan(rolebook, variants=["plain", "teacher"], inputs=[{"turns": turns}, "Hello"])
    fill(rolebook, comparison)
    vote(rolebook, comparison, "1-1-1", "2-1-1")
    vote(rolebook, comparison, "2-2-1", "1-2-1")
    lost = cells_of(rolebook, comparison)["2-1-1"]
    rolebook.log.delete([lost.session_id])
    assert 2 == len(rolebook.comparisons.ballots(comparison.id))
    assert (1, 0, 0, 1, 1) == rolebook.log.purge_deleted(LATER)
    (kept,) = rolebook.comparisons.ballots(comparison.id)
    assert {"2-2-1", "1-2-1"} == {str(key) for key in kept.pair}
    fill(rolebook, comparison)
    assert CellStatus.COMPLETE is cells_of(rolebook, comparison)["2-1-1"].status
    assert [kept] == rolebook.comparisons.ballots(comparison.id)


def test_script_whose_session_is_gone_in_the_middle_of_it_begins_anew(
    rolebook: Rolebook, upstream: FakeUpstream
) -> None:
    upstream.model_rule("plain", "ok,400")
    variants = [{"persona": "plain", "model": "plain"}]
    script = plan(rolebook, variants=variants, inputs=[{"turns": ["Why?", "And then?"]}])
    fill(rolebook, script)
    other = plan(rolebook, variants=variants, inputs=["Why?"])
    fill(rolebook, other, is_reusing=True)
    upstream.model_rule("plain", "ok")
    rolebook.log.delete([cells_of(rolebook, script)["1-1-1"].session_id])
    rolebook.log.purge_deleted(LATER)
    shown = cells_of(rolebook, other)
    assert shown["1-1-1"].is_reused
    run = rolebook.compare.start(script)
    assert run.wait(20)
    assert run.error is None
    (cell,) = cells_of(rolebook, script).values()
    assert (CellStatus.COMPLETE, 2) == (cell.status, len(cell.turns))
    assert shown == cells_of(rolebook, other)


def test_votes_of_an_earlier_version_on_answers_that_are_gone_end_with_the_next_answer(
    rolebook: Rolebook,
) -> None:
    comparison = plan(rolebook, variants=["plain", "teacher"], inputs=["Hello"])
    fill(rolebook, comparison)
    lost = cells_of(rolebook, comparison)["2-1-1"]
    rolebook.log.delete([lost.session_id])
    rolebook.log.purge_deleted(LATER)
    vote(rolebook, comparison, "1-1-1", "2-1-1")
    fill(rolebook, comparison)
    assert [] == rolebook.comparisons.ballots(comparison.id)


def vote(rolebook: Rolebook, comparison: Comparison, *cells: str) -> None:
    ballot = Ballot(new_id(), comparison.id, *map(comparison.key_of, cells))
    rolebook.comparisons.create_ballot(ballot)
    rolebook.comparisons.cast_ballot(ballot.id, Outcome.LEFT)


def test_what_a_judge_was_shown_of_a_session_goes_with_it(
    rolebook: Rolebook, library_dir: Path
) -> None:
    add_checks(library_dir, GENTLE)
    add_judge(library_dir)
    (turn,) = talk(rolebook, "plain", "A secret question")
    rolebook.live_checks.wait(turn.id, 10)
    rolebook.log.delete([turn.session_id])
    assert (1, 0, 1, 0, 0) == rolebook.log.purge_deleted(LATER)
    assert 0 == rolebook.log.database_status().turns
    assert "ecret" not in content_of(rolebook)
