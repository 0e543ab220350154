"""How the variants of a comparison are asked, and turns were: as the log has it, else as they would be."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from rolebook.core.chat import PreparedTurn
from rolebook.core.comparison import Cell, CellKey, Comparison, Variant
from rolebook.core.errors import InputError, NotFoundError, UpstreamError
from rolebook.core.session import Turn
from rolebook.report.book import Book
from rolebook.report.differing import Asked


def asked_in(book: Book, comparison: Comparison) -> Sequence[Asked]:
    """How each variant of a comparison that is recorded is asked, by the example of one input."""
    entry = example_of(comparison)
    cells = book.comparisons.cells(comparison, inputs=[entry], repeats=[0])
    by_variant = {cell.key.variant: cell for cell in cells}
    return [
        asked_at(book, comparison, CellKey(variant, entry, 0), by_variant.get(variant))
        for variant in range(len(comparison.variants))
    ]


def asked_by_plan(
    book: Book,
    comparison: Comparison,
    entry: int,
    prepared: Mapping[CellKey, PreparedTurn] = MappingProxyType({}),
) -> Sequence[Asked]:
    """The same of one that is only planned.

    Arguments:
        prepared: what cells would send, as far as it is known already.
    """
    keys = [CellKey(variant, entry, 0) for variant in range(len(comparison.variants))]
    return [asked_at(book, comparison, key, prepared=prepared.get(key)) for key in keys]


def example_of(comparison: Comparison, failing: Collection[CellKey] = ()) -> int:
    """The first input that all variants have an answer to, or will have; else the first that all can be asked.

    Arguments:
        failing: cells that cannot be asked.
    """
    without = {key.input for key in failing}
    asked = [number for number in range(len(comparison.inputs)) if number not in without] or [0]
    if any(variant.is_recorded for variant in comparison.variants):
        return next((number for number in asked if comparison.inputs[number].recorded), asked[0])
    return asked[0]


def asked_at(
    book: Book,
    comparison: Comparison,
    key: CellKey,
    cell: Cell | None = None,
    *,
    prepared: PreparedTurn | None = None,
) -> Asked:
    """How a variant is asked, by the example of one of its cells.

    Arguments:
        cell: as it stands in the log, if it has begun.
        prepared: what it would send, if that is known already.
    """
    variant, entry = comparison.variants[key.variant], comparison.inputs[key.input]
    if variant.is_recorded:
        ids = [id for each in comparison.inputs for id in each.recorded]
        turns = [*_whole(book, entry.recorded[:1]), *book.comparisons.unlike_turns(ids)]
        chosen = _variables_of(book, turns[:1]) or entry.variables
        found = _asked(book, key.variant, variant, turns, variant.revisions, chosen)
        return _with_given(found, comparison)
    turns = _whole(book, [turn.id for turn in cell.turns[:1]] if cell else [])
    if not turns:
        # What cannot be asked is told by its persona alone.
        with suppress(InputError, NotFoundError, UpstreamError):
            turns = [book.cells.planned_turn(comparison, key, prepared)]
    chosen = {**entry.variables, **variant.variables}
    found = _asked(book, key.variant, variant, turns, variant.revisions, chosen)
    return _with_given(found, comparison)


def answered_at(book: Book, comparison: Comparison, cell: Cell) -> Asked:
    """How one answer was asked for; a recorded one without regard to the others."""
    variant = comparison.variants[cell.key.variant]
    turns = _whole(book, [turn.id for turn in cell.turns[:1]])
    if not variant.is_recorded or not turns:
        return asked_at(book, comparison, cell.key, cell)
    chosen = _variables_of(book, turns)
    found = _asked(book, cell.key.variant, variant, turns, [turns[0].revision], chosen)
    return _with_given(found, comparison)


def asked_in_turn(book: Book, turn: Turn, index: int) -> Asked:
    """How a turn of the log was asked, whatever it belongs to.

    Arguments:
        turn: with its messages.
        index: what it shall go by, in place of a variant's.
    """
    variant = Variant("", book.log.get_session(turn.session_id).persona_id, turn.revision)
    return _asked(book, index, variant, [turn], [turn.revision], _variables_of(book, [turn]))


def _asked(
    book: Book,
    index: int,
    variant: Variant,
    turns: Sequence[Turn],
    revisions: Sequence[str],
    chosen: Mapping[str, Any],
) -> Asked:
    personas = []
    for revision in revisions:
        with suppress(InputError, NotFoundError):
            personas.append(book.cells.persona_of(revision))
    variables = personas[0].persona.variables if personas else {}
    return Asked(
        index,
        variant,
        tuple(revisions),
        tuple(personas),
        tuple(turns),
        variables={name: chosen.get(name, each.fallback) for name, each in variables.items()},
    )


def _with_given(asked: Asked, comparison: Comparison) -> Asked:
    """With what inputs say of its variables, and the variant does not say itself."""
    given = {name for entry in comparison.inputs for name in entry.variables}
    own = asked.variables.keys() - asked.variant.variables.keys()
    return replace(asked, given=frozenset(own & given))


def _whole(book: Book, turn_ids: Sequence[str]) -> list[Turn]:
    """Turns with their messages, as far as they are still in the log."""
    found = []
    for id in turn_ids:
        with suppress(NotFoundError):
            found.append(book.log.get_turn(id))
    return found


def _variables_of(book: Book, turns: Sequence[Turn]) -> Mapping[str, Any]:
    """Those of the session in which the first of some turns was had."""
    for turn in turns:
        with suppress(NotFoundError):
            return book.log.get_session(turn.session_id).variables
    return {}
