"""Answers of a comparison that cost nothing."""

from __future__ import annotations

from dataclasses import replace

from rolebook.core.comparison import Comparison
from rolebook.core.completion import Choice
from rolebook.core.session import TurnStatus
from rolebook.wiring import Rolebook


def answer_all(rolebook: Rolebook, comparison: Comparison) -> None:
    """Fill its cells without a call; what their answers must be is not checked."""
    for key in comparison.cell_keys():
        revision = rolebook.cells.persona_of(comparison.variants[key.variant].revision).revision
        session = rolebook.cells.session_of(comparison, key)
        prepared, text = (
            rolebook.cells.prepare(comparison, key),
            comparison.inputs[key.input].text,
        )
        turn = rolebook.chat.pending_turn(session, prepared, text)
        begun = rolebook.comparisons.start_cell(comparison.id, key, session, turn, revision)
        answer = (Choice("Because of the air.", "stop"),)
        rolebook.log.finish_turn(replace(begun, status=TurnStatus.COMPLETE, choices=answer))
