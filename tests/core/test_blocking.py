"""Waits that are said to be waits, where somebody ends them by hand."""

from __future__ import annotations

import threading

import pytest

from rolebook.core.blocking import blocking


def interrupted(self: threading.Condition, _state: object) -> None:
    raise KeyboardInterrupt


def test_ctrl_c_as_a_wait_takes_its_lock_again_is_a_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(threading.Condition, "_acquire_restore", interrupted)
        with pytest.raises(KeyboardInterrupt), blocking():
            threading.Event().wait(0.01)


def test_other_mistakes_of_a_wait_are_told_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="un-acquired lock"), blocking():
        threading.Condition().wait()
