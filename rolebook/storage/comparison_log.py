"""Comparisons in the session log: :class:`SqliteComparisonLog`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from rolebook.core.access import payer
from rolebook.core.check import CheckResult
from rolebook.core.comparison import (
    Ballot,
    Break,
    Cell,
    CellKey,
    CellOutline,
    Comparison,
    Standing,
    Tally,
)
from rolebook.core.errors import ConflictError
from rolebook.core.preference import Outcome
from rolebook.core.session import Revision, Session, Turn
from rolebook.storage import ballot as votes
from rolebook.storage import cell
from rolebook.storage import comparison as queries
from rolebook.storage import revision as revisions
from rolebook.storage.comparison import ComparisonSummary
from rolebook.storage.log import SqliteLog
from rolebook.storage.owner import is_alive
from rolebook.storage.write import record_results


class SqliteComparisonLog:
    """The comparisons in a log's file. Safe for threads; every method may raise StorageError.

    Other than turns, nothing here is kept in memory while the file cannot be written: whoever asked is told.
    """

    def __init__(self, log: SqliteLog) -> None:
        self._log = log

    def create_comparison(self, comparison: Comparison, revisions: Sequence[Revision]) -> None:
        """Record a comparison with the revisions of its variants and its judge, and link its recorded cells.

        Raises ConflictError if there is one of that id, and FaultyDataError for one that could not be read back.
        """
        self._log.change(queries.create_comparison, comparison, revisions)

    def get_comparison(self, comparison_id: str) -> Comparison:
        """Also finds one in the trash. Raises NotFoundError, StorageError where it is damaged."""
        return self._log.read(queries.get_comparison, comparison_id)

    def require_comparison(self, comparison_id: str) -> None:
        """Raises NotFoundError if there is none; one that cannot be read is there."""
        self._log.read(queries.require_comparison, comparison_id)

    def get_summary(self, comparison_id: str) -> ComparisonSummary:
        """One comparison as its line of the list, also where it is damaged. Raises NotFoundError."""
        return self._told(self._log.read(queries.get_summary, comparison_id))

    def list_comparisons(
        self, *, limit: int = 40, before: str = "", is_deleted: bool = False
    ) -> tuple[list[ComparisonSummary], str]:
        """One page of comparisons, the newest first, and the cursor of the next page, empty on the last one.

        One that is damaged stands there like the others.
        """
        summaries, cursor = self._log.read(
            queries.list_comparisons, limit=limit, before=before, is_deleted=is_deleted
        )
        return list(map(self._told, summaries)), cursor

    def _told(self, summary: ComparisonSummary) -> ComparisonSummary:
        return replace(summary, tally=self._as_told(summary.tally, summary.runner))

    def rename_comparison(self, comparison_id: str, question: str) -> None:
        """Put its question in other words. Raises NotFoundError."""
        self._log.change(queries.rename_comparison, comparison_id, question)

    def delete_comparisons(self, ids: Iterable[str]) -> int:
        """Move comparisons to the trash. Returns how many; unknown ones are passed over."""
        return self._log.change(queries.delete_comparisons, ids)

    def restore_comparisons(self, ids: Iterable[str]) -> int:
        """Take comparisons out of the trash. Returns how many."""
        return self._log.change(queries.restore_comparisons, ids)

    def tally(self, comparison: Comparison) -> Tally:
        """How many of its cells are how far, and what they have cost."""
        runner = self._log.read(queries.runner_of, comparison.id)
        return self._as_told(self._log.read(cell.tally, comparison), runner)

    def _as_told(self, tally: Tally, runner: str) -> Tally:
        """While it runs, what answers still lack is on its way, and nothing that anybody has to see to."""
        return tally.without_checks if self._is_at_work(runner) else tally

    def outlines(self, comparison: Comparison) -> Sequence[CellOutline]:
        """The cells that have begun, without what was said, in no order."""
        return self._log.read(cell.outlines, comparison)

    def standings(self, comparison: Comparison) -> Sequence[Standing]:
        """How far all cells are, by variant: of many cells in a fraction of the time that ``outlines`` takes."""
        return self._log.read(cell.standings, comparison)

    def cells(
        self,
        comparison: Comparison,
        *,
        inputs: Sequence[int] | None = None,
        repeats: Sequence[int] | None = None,
    ) -> Sequence[Cell]:
        """The cells that have begun, with turns and results, by input, repeat and variant.

        Arguments:
            inputs: only those of these inputs.
            repeats: only these repeats of them.
        """
        return self._log.read(cell.cells, comparison, inputs=inputs, repeats=repeats)

    def unsettled(self, comparison: Comparison, *, is_retry: bool) -> Sequence[CellKey]:
        """The cells that have ended with something left to do, in the order in which they run.

        Arguments:
            is_retry: whether that is also to ask failed ones again, and judges about what they could not tell.
        """
        return self._log.read(cell.unsettled, comparison, is_retry=is_retry)

    def get_cell(self, comparison: Comparison, key: CellKey) -> Cell:
        """One cell; a waiting one if it has not begun."""
        cells = self.cells(comparison, inputs=[key.input])
        waiting = Cell(key, len(comparison.inputs[key.input].turns))
        return next((cell for cell in cells if cell.key == key), waiting)

    def cell_of_session(self, session_id: str) -> CellKey | None:
        """The place in its grid of the cell that was filled in a session; ``None`` where none shows it now."""
        return self._log.read(queries.cell_of_session, session_id)

    def start_cell(
        self, comparison_id: str, key: CellKey, session: Session, turn: Turn, revision: Revision
    ) -> Turn:
        """Record in one piece that a cell begins: its session, its place in the grid, its first turn as pending."""
        return self._log.begin(
            queries.start_cell,
            key,
            session,
            turn,
            revision,
            owner=self._log.owner_id(),
            api_key=payer().key_number,
        )

    def reuse_answers(
        self, comparison_id: str, wanted: Mapping[CellKey, Turn]
    ) -> Sequence[CellKey]:
        """Fill cells with complete turns of the log that were asked in exactly the same way.

        Arguments:
            wanted: for each cell a turn as it would be sent; several repeats get different turns.

        Returns the keys that were filled.
        """
        return self._log.change(queries.reuse_answers, comparison_id, wanted)

    def reusable_turns(self, wanted: Mapping[CellKey, Turn]) -> Mapping[CellKey, str]:
        """The ids of the turns that ``reuse_answers`` would fill cells with, if the comparison were recorded."""
        return self._log.read(queries.reusable_turns, wanted)

    def record_results(
        self,
        turn_id: str,
        results: Sequence[CheckResult],
        *,
        comparison_id: str = "",
    ) -> None:
        """Record what checks found on a turn; an older result of the same check is replaced.

        Arguments:
            comparison_id: the comparison that asked, where the turn may belong to somebody's talk.
        """
        self._log.change(record_results, turn_id, results, comparison_id=comparison_id)

    def results_of_turns(self, turn_ids: Iterable[str]) -> Mapping[str, tuple[CheckResult, ...]]:
        """What checks found on turns, by the turns' ids; those without results are left out."""
        return self._log.results_of_turns(turn_ids)

    def judging_turns(self, turn_ids: Iterable[str]) -> Mapping[str, Mapping[str, str]]:
        """The turns in which rubrics were judged, by the judged turn's id and the check's label."""
        return self._log.read(cell.judging_turns, turn_ids)

    def claim_comparison(self, comparison_id: str) -> None:
        """Keep other processes from running it meanwhile. Why its last run broke off stays known.

        Raises ConflictError if another one runs it, NotFoundError.
        """
        owner = self._log.owner_id()
        runner = self._log.read(queries.runner_of, comparison_id)
        if runner and runner != owner and is_alive(self._log.path, runner):
            raise ConflictError("Another Rolebook runs this comparison at the moment.")
        self._log.change(queries.set_runner, comparison_id, owner, None, instead_of=runner)

    def record_breaks(self, comparison_id: str, breaks: Sequence[Break]) -> None:
        """Keep why the run of this process does not call everybody; nothing: it does."""
        owner = self._log.owner_id()
        self._log.change(queries.set_runner, comparison_id, owner, breaks, instead_of=owner)

    def release_comparison(self, comparison_id: str, breaks: Sequence[Break] = ()) -> None:
        """Let others run it again, and keep why this run broke off, if it did."""
        owner = self._log.owner_id()
        self._log.change(queries.set_runner, comparison_id, "", breaks, instead_of=owner)

    def breaks_of(self, comparison_id: str) -> Sequence[Break]:
        """Why its last run broke off; nothing if it did not. Raises NotFoundError."""
        return self._log.read(queries.breaks_of, comparison_id)

    def is_run_elsewhere(self, comparison_id: str) -> bool:
        """Whether another process runs it at the moment."""
        runner = self._log.read(queries.runner_of, comparison_id)
        return runner != self._log.owner_id() and self._is_at_work(runner)

    def _is_at_work(self, runner: str) -> bool:
        return bool(runner) and is_alive(self._log.path, runner)

    def recent_turns(self, persona_id: str, limit: int) -> Sequence[Turn]:
        """The newest turns that people had with a persona, however they ended, without trials; the oldest first."""
        return self._log.read(queries.recent_turns, persona_id, limit)

    def usual_answer(self, persona_id: str) -> float | None:
        """The mean length of a persona's newest answers, in tokens; ``None`` where none is known."""
        return self._log.read(queries.usual_answer, persona_id)

    def former_revision(self, persona_id: str, present: str) -> Revision | None:
        """What answered people last before a persona became what it is at ``present``, if anything else has."""
        return self._log.read(queries.former_revision, persona_id, present)

    def revision_times(self, persona_id: str) -> Mapping[str, str]:
        """When the log first saw each revision of a persona, by the revision's id."""
        return self._log.read(revisions.revision_times, persona_id)

    def turns_up_to(self, turn_id: str) -> Sequence[Turn]:
        """The turns that are history after this one, which is the last. Raises NotFoundError."""
        return self._log.turns_up_to(turn_id)

    def unlike_turns(self, turn_ids: Iterable[str]) -> Sequence[Turn]:
        """One of these turns for each way in which they were asked: another model, upstream, or other parameters.

        They come without messages and reply, in the order of the log.
        """
        return self._log.read(queries.unlike_turns, turn_ids)

    def create_ballot(self, ballot: Ballot) -> None:
        """Record that two cells are laid before somebody."""
        self._log.change(votes.create_ballot, ballot)

    def get_ballot(self, ballot_id: str) -> Ballot:
        """Raises NotFoundError."""
        return self._log.read(votes.get_ballot, ballot_id)

    def cast_ballot(
        self, ballot_id: str, outcome: Outcome | None, *, is_skipped: bool = False
    ) -> Ballot:
        """Record what somebody said of it, or that they skip it.

        Raises NotFoundError, and ConflictError where it is too late for that.
        """
        return self._log.change(votes.cast_ballot, ballot_id, outcome, is_skipped=is_skipped)

    def withdraw_vote(self, ballot_id: str) -> Ballot:
        """Take back what somebody said of it: the two answers count as skipped then. Raises NotFoundError."""
        return self._log.change(votes.withdraw_vote, ballot_id)

    def ballots(self, comparison_id: str) -> Sequence[Ballot]:
        """All ballots of a comparison, the oldest first. Raises NotFoundError."""
        return self._log.read(votes.ballots, comparison_id)
