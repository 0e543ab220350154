"""A comparison as it stands at one moment: what every kind of file to take away is made from."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from rolebook import __version__
from rolebook.core.comparison import (
    Ballot,
    Break,
    Cell,
    CellKey,
    CellStatus,
    Comparison,
    ComparisonInput,
    Tally,
)
from rolebook.core.comparison_data import comparison_data
from rolebook.core.errors import NotFoundError, Phrase
from rolebook.core.fault import FaultyDataError
from rolebook.core.frozen import frozen
from rolebook.core.measure import Evidence, summarise, summarise_by_tag
from rolebook.core.persona import Persona, persona_of_revision
from rolebook.core.session import Revision, Turn, TurnError, TurnMark, now
from rolebook.language.translator import Translator
from rolebook.report.asking import asked_in
from rolebook.report.book import Book
from rolebook.report.differing import Asked
from rolebook.report.presentation import hue_of
from rolebook.report.visible import INVISIBLE
from rolebook.storage.encoding import encode_json

if TYPE_CHECKING:
    from rolebook.report.evidence import Findings
    from rolebook.storage.comparison_log import SqliteComparisonLog

#: Counts changes of the plan in exports that a reader must know of.
FORMAT_VERSION = 2
KIND = "comparison"

Said = TypeVar("Said", Phrase, TurnError)


@frozen
class Conduct:
    """How the answers of a variant were really asked for, each kind of it once, in the order of the cells.

    ``models_requested`` are those asked for, ``models`` those that say they have answered; upstreams go by name.
    """

    models_requested: tuple[str, ...]
    models: tuple[str, ...]
    upstreams: tuple[str, ...]
    parameters_requested: tuple[Mapping[str, Any], ...]
    parameters_sent: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Snapshot:
    """Everything about a comparison, read at once: a run that goes on meanwhile changes nothing of it.

    ``cells`` are those that have begun, by their keys; ``votes`` the ballots with an outcome. ``revisions`` are by id;
    ``histories`` are the turns that an input follows, by the id of the last of them; one that is gone is left out.
    ``tally`` says what its checks lack, as pages do; ``breaks`` say why the last run broke off. ``book`` is where all
    of it was read.
    """

    comparison: Comparison
    cells: Mapping[CellKey, Cell]
    votes: Sequence[Ballot]
    revisions: Mapping[str, Revision]
    histories: Mapping[str, Sequence[Turn]]
    marks: Mapping[str, TurnMark]
    taken_at: str
    tally: Tally
    book: Book
    breaks: Sequence[Break] = ()

    @property
    def head(self) -> dict[str, Any]:
        """What kind of file this is, and who wrote it when."""
        return {
            "kind": KIND,
            "format": FORMAT_VERSION,
            "version": __version__,
            "exported_at": self.taken_at,
        }

    @property
    def plan_data(self) -> dict[str, Any]:
        """All that it takes to do the comparison again, exactly, as JSON can hold it.

        ``history`` has what was said before inputs that follow turns of the log: to be read, not to be done again.
        """
        turns = {turn.id: turn for history in self.histories.values() for turn in history}
        return {
            "comparison": comparison_data(self.comparison),
            "revisions": [asdict(revision) for revision in self.revisions.values()],
            "history": {
                "turns": {
                    turn.id: {
                        "session_id": turn.session_id,
                        "revision": turn.revision,
                        "input": turn.input,
                        "text": turn.text,
                    }
                    for turn in turns.values()
                },
                "before": {
                    last: [turn.id for turn in history] for last, history in self.histories.items()
                },
            },
        }

    @property
    def plan_text(self) -> str:
        """The plan under its head as one JSON object, exactly; characters that do not show are spelled out in it."""
        data = {"rolebook": self.head, **self.plan_data}
        lines = ",\n".join(f'"{name}": {encode_json(value)}' for name, value in data.items())
        return INVISIBLE.sub(_spelled_out, f"{{{lines}}}")

    @cached_property
    def evidence(self) -> Evidence:
        """What can be measured in the answers."""
        return summarise(self.comparison, self.cells.values())

    @cached_property
    def evidence_by_tag(self) -> Mapping[str, Evidence]:
        """The same for the inputs of each tag."""
        return summarise_by_tag(self.comparison, self.cells.values())

    @property
    def discreet(self) -> Snapshot:
        """Without the addresses of upstreams, which are nobody's business to whom an export is given."""
        cells = {key: _discreet(cell) for key, cell in self.cells.items()}
        if not self.breaks and all(cells[key] is cell for key, cell in self.cells.items()):
            return self
        breaks = [replace(each, error=_without_address(each.error)) for each in self.breaks]
        return replace(self, cells=cells, breaks=breaks)

    def findings(self, translator: Translator) -> Findings:
        """What the answers and the votes show, in words and charts."""
        # Loaded by those who ask: data formats need no charts.
        from rolebook.report.evidence import findings

        comparison = self.comparison
        return findings(
            comparison,
            self.evidence,
            self.votes,
            translator=translator,
            hues=[hue_of(variant) for variant in comparison.variants],
            by_tag=self.evidence_by_tag,
        )

    @cached_property
    def asked(self) -> Sequence[Asked]:
        """How each variant is asked; that is the same at every moment, and few want to know."""
        return asked_in(self.book, self.comparison)

    @cached_property
    def progress(self) -> Mapping[str, int]:
        """How many cells are how far, by the names of CellStatus; ``total`` is all of them.

        What else there is a tally calls so: ``recorded_failed`` and ``recorded_stopped`` are among those that failed or
        were stopped, and without what is ``unchecked`` or ``unjudged`` the figures do.
        """
        counted = Counter(cell.status.value for cell in self.cells.values())
        total = self.comparison.size
        counted[CellStatus.WAITING.value] += total - len(self.cells)
        return {
            "total": total,
            **{status.value: counted[status.value] for status in CellStatus},
            "recorded_failed": self.tally.recorded_failed,
            "recorded_stopped": self.tally.recorded_stopped,
            "unchecked": self.tally.unchecked,
            "unjudged": self.tally.unjudged,
        }

    def persona_of(self, variant: int) -> Persona | None:
        """The persona of a variant at its revision; ``None`` if this version cannot read it any more."""
        try:
            revision = self.revisions[self.comparison.variants[variant].revision]
            return persona_of_revision(revision).persona
        except FaultyDataError:
            return None

    def revisions_of(self, variant: int) -> Sequence[Revision]:
        """All revisions that the answers of a variant are from: several only where they were recorded."""
        return [self.revisions[id] for id in self.comparison.variants[variant].revisions]

    def personas_of(self, variant: int) -> Sequence[str]:
        """Each persona that the answers of a variant are from, by its name and its id."""
        from rolebook.storage.export import persona_name

        first, *others = self.revisions_of(variant)
        found = [(first, self.comparison.variants[variant].persona_id)]
        found += [(other, other.persona_id) for other in others]
        return list(
            dict.fromkeys(
                f"{persona_name(revision)} ({id})" if id else persona_name(revision)
                for revision, id in found
            )
        )

    @cached_property
    def _checks(self) -> Sequence[int]:
        """So many checks an answer of each variant is held against: none of what was recorded."""
        personas = map(self.persona_of, range(len(self.comparison.variants)))
        return [
            0
            if variant.is_recorded
            else len(self.comparison.checks_with(persona.checks if persona else ()))
            for variant, persona in zip(self.comparison.variants, personas, strict=True)
        ]

    def unchecked_in(self, cell: Cell, turn: Turn) -> int:
        """How many checks of an answer have no result, in a cell that is complete."""
        if cell.status is not CellStatus.COMPLETE:
            return 0
        return max(0, self._checks[cell.key.variant] - len(cell.results.get(turn.id, ())))

    def history_of(self, entry: ComparisonInput) -> Sequence[Turn]:
        """What was said before an input, as far as it is still known."""
        if entry.follows:
            return self.histories.get(entry.follows, ())
        return entry.history

    def turns_of(self, variant: int) -> Iterator[Turn]:
        """All turns in which a variant was asked."""
        for key, cell in self.cells.items():
            if key.variant == variant:
                yield from cell.turns

    def conduct_of(self, variant: int) -> Conduct:
        """How the answers of a variant were asked for."""
        turns = list(self.turns_of(variant))
        return Conduct(
            models_requested=_once(turn.model_requested for turn in turns),
            models=_once(turn.model for turn in turns),
            upstreams=_once(turn.upstream for turn in turns),
            parameters_requested=_each_once(turn.parameters_requested for turn in turns),
            parameters_sent=_each_once(turn.parameters_sent for turn in turns),
        )


def take_snapshot(book: Book, comparison: Comparison) -> Snapshot:
    """Read all of a comparison. Raises StorageError."""
    comparisons, log = book.comparisons, book.log
    cells = {cell.key: cell for cell in comparisons.cells(comparison)}
    ids = [id for variant in comparison.variants for id in variant.revisions]
    ids += [comparison.judge.revision] if comparison.judge else []
    turn_ids = [turn.id for cell in cells.values() for turn in cell.turns]
    return Snapshot(
        comparison,
        cells=cells,
        votes=[ballot for ballot in comparisons.ballots(comparison.id) if ballot.outcome],
        revisions={id: log.get_revision(id) for id in dict.fromkeys(ids)},
        histories=dict(_histories(comparisons, comparison)),
        marks=log.marks_of(turn_ids),
        taken_at=now(),
        tally=comparisons.tally(comparison),
        book=book,
        breaks=comparisons.breaks_of(comparison.id),
    )


def _histories(
    comparisons: SqliteComparisonLog, comparison: Comparison
) -> Iterator[tuple[str, Sequence[Turn]]]:
    for last in dict.fromkeys(entry.follows for entry in comparison.inputs if entry.follows):
        try:
            yield last, comparisons.turns_up_to(last)
        except NotFoundError:
            continue


def _discreet(cell: Cell) -> Cell:
    said = [turn.error.parameters for turn in cell.turns if turn.error]
    said += [result.said.parameters for result in cell.checks]
    if not any(map(_has_address, said)):
        return cell
    turns = [
        replace(turn, error=_without_address(turn.error)) if turn.error else turn
        for turn in cell.turns
    ]
    results = {
        turn_id: tuple(replace(result, said=_without_address(result.said)) for result in found)
        for turn_id, found in cell.results.items()
    }
    return replace(cell, turns=tuple(turns), results=results)


#: Parameters of errors that say where an upstream is, or what lies on the way to it.
_ADDRESSES = ("base_url", "proxy")


def _has_address(parameters: Mapping[str, Any]) -> bool:
    """Whether it, or a phrase in it, names the address of an upstream."""
    return any(name in parameters for name in _ADDRESSES) or any(
        isinstance(value, Phrase) and _has_address(value.parameters)
        for value in parameters.values()
    )


def _without_address(said: Said) -> Said:
    parameters = {
        name: _without_address(value) if isinstance(value, Phrase) else value
        for name, value in said.parameters.items()
    }
    if _has_address(parameters):
        parameters |= {name: "…" for name in _ADDRESSES if name in parameters}
        # What the system says may name it, too.
        parameters.pop("cause", None)
    return replace(said, parameters=parameters)


def _spelled_out(match: re.Match[str]) -> str:
    """As JSON writes a character in ASCII; it only stands within texts."""
    return match[0] if match["flag"] else json.dumps(match[0])[1:-1]


def _once(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in names if name))


def _each_once(sets: Iterable[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    # By how they are printed: 1 and true are equal.
    return tuple({repr(each): each for each in sets}.values())
