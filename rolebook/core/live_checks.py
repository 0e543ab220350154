"""The checks of a persona on what it answers in a talk: rules at once, rubrics afterwards by a judge."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import suppress
from typing import Protocol

from rolebook.core.access import on_this_account
from rolebook.core.chat import ChatService, Library
from rolebook.core.check import Check, CheckResult, run_check
from rolebook.core.errors import ConflictError, Phrase, RolebookError, StorageError
from rolebook.core.judge import (
    AskedJudge,
    Judgement,
    Judging,
    answer_of,
    judge_at,
    not_judged,
    require_judge,
)
from rolebook.core.persona import ResolvedPersona
from rolebook.core.session import Session, SessionLog, Turn, TurnStatus

_JUDGES_AT_ONCE = 2
#: Rubrics that wait for a judge at most: whoever talks faster than that has later answers left unjudged.
_MOST_WAITING = 100

_logger = logging.getLogger(__name__)


class ResultLog(Protocol):
    """Where results are kept. May raise StorageError."""

    def record_results(self, turn_id: str, results: Sequence[CheckResult]) -> None:
        """Record what checks found on a turn; an older result of the same label is replaced."""


class LiveChecks:
    """Runs the checks of talks. Safe for threads; nothing is started before the first rubric.

    Arguments:
        judge_id: the persona that judges rubrics.
    """

    def __init__(
        self,
        *,
        judging: Judging,
        chat: ChatService,
        library: Library,
        log: SessionLog,
        results: ResultLog,
        judge_id: str,
    ) -> None:
        self._judging = judging
        self._chat = chat
        self._library = library
        self._log = log
        self._results = results
        self._judge_id = judge_id
        self._lock = threading.Lock()
        self._workers: ThreadPoolExecutor | None = None
        self._waiting: dict[tuple[str, str], Future[None]] = {}
        self._running: set[str] = set()
        self._is_stopping = False

    def take(self, turn: Turn, session: Session, resolved: ResolvedPersona) -> None:
        """Check a turn that has just ended; rubrics go on after this returns. Never raises."""
        if turn.status is not TurnStatus.COMPLETE or not session.is_talk:
            return
        try:
            self._run([check for check in resolved.persona.checks if check.live], turn)
        # The answer is there and logged; that it could not be checked is no reason to call it failed.
        except RolebookError as error:
            _logger.warning("the turn %s could not be checked: %s", turn.id, error)
        except Exception:
            _logger.exception("the turn %s could not be checked", turn.id)

    def check_again(self, turn_id: str) -> None:
        """Run all checks that the persona of a turn has now.

        Raises NotFoundError, ConflictError, StorageError, and BudgetError where a judge would have to be paid by a key
        that has used up its budget.
        """
        turn = self._log.get_turn(turn_id)
        session = self._log.get_session(turn.session_id)
        if not session.is_talk:
            raise ConflictError("This answer belongs to a comparison and is checked there.")
        if turn.status is not TurnStatus.COMPLETE:
            raise ConflictError("Only an answer that is complete can be checked.")
        checks = self._chat.persona_of(session).persona.checks
        if any(check.is_rubric for check in checks):
            self._chat.require_budget()
        self._run(checks, turn)

    def being_judged(self, turn_id: str) -> Sequence[str]:
        """The labels of the rubrics that a judge is asked about, or soon will be."""
        with self._lock:
            return [label for waiting, label in self._waiting if waiting == turn_id]

    def wait(self, turn_id: str, timeout_s: float) -> None:
        """Wait until the rubrics of a turn are judged."""
        with self._lock:
            waiting = [future for (of, _), future in self._waiting.items() if of == turn_id]
        wait_for(waiting, timeout_s)

    def stop(self) -> None:
        """Drop the rubrics that wait, and stop those that are being judged. It may be used again."""
        with self._lock:
            workers, self._workers = self._workers, None
            running = list(self._running)
            self._waiting.clear()
            self._is_stopping = True
        for turn_id in running:
            self._chat.cancel(turn_id)
        if workers:
            workers.shutdown(cancel_futures=True)
        self._is_stopping = False

    def _run(self, checks: Sequence[Check], turn: Turn) -> None:
        answer = answer_of(turn)
        found = [run_check(check, answer) for check in checks if not check.is_rubric]
        if found:
            self._results.record_results(turn.id, found)
        for check in checks:
            if check.is_rubric:
                self._queue(check, turn)

    def _queue(self, check: Check, turn: Turn) -> None:
        key = turn.id, check.label
        with self._lock:
            is_full = len(self._waiting) >= _MOST_WAITING
            if not is_full and key not in self._waiting:
                self._workers = self._workers or ThreadPoolExecutor(
                    _JUDGES_AT_ONCE, thread_name_prefix="rolebook-judge"
                )
                judge = on_this_account(self._judge)
                self._waiting[key] = self._workers.submit(judge, check, turn)
        if is_full:
            said = Phrase("Too many answers waited to be judged. Check it again later.")
            self._record(turn, check.result(None, said))

    def _judge(self, check: Check, turn: Turn) -> None:
        """One rubric, in a thread of its own."""
        try:
            judgement = self._ask(check, turn)
            if judgement and not judgement.is_recorded:
                self._record(turn, judgement.results[0])
        except StorageError as error:
            _logger.warning("the turn %s could not be judged: %s", turn.id, error)
        except RolebookError as error:
            self._record(turn, not_judged(check, error.said))
        except Exception:
            _logger.exception("the turn %s could not be judged", turn.id)
        finally:
            with self._lock:
                self._waiting.pop((turn.id, check.label), None)

    def _default_model(self, upstream: str) -> str:
        # That it cannot be reached is told by the verdict.
        with suppress(RolebookError):
            return self._chat.default_model(upstream)
        return ""

    def _ask(self, check: Check, turn: Turn) -> Judgement | None:
        persona = self._library.get_persona(self._judge_id)
        require_judge(persona)
        before = self._log.history(turn.session_id, before=turn.position)
        events = self._judging.judge(
            [check],
            turn,
            conversation=[(said.input, said.text) for said in before],
            asked=AskedJudge(judge_at(persona, self._default_model), persona),
        )
        judging_id, judgement = "", None
        try:
            for event in events:
                if isinstance(event, Judgement):
                    judgement = event
                elif isinstance(event, str):
                    judging_id = event
                    self._note_running(judging_id)
        finally:
            with self._lock:
                self._running.discard(judging_id)
        return judgement

    def _note_running(self, judging_id: str) -> None:
        with self._lock:
            self._running.add(judging_id)
            is_stopping = self._is_stopping
        if is_stopping:
            self._chat.cancel(judging_id)

    def _record(self, turn: Turn, result: CheckResult) -> None:
        try:
            self._results.record_results(turn.id, [result])
        except RolebookError as error:
            # The log cannot be written, or the turn is gone: the button is still there.
            _logger.warning("what was found on the turn %s is not logged: %s", turn.id, error)
