"""Checks on an answer: deterministic ones at once, rubrics by a judge, which is a persona like any other."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from rolebook.core.chat import ChatService, TurnEnded, TurnEvent, TurnStarted
from rolebook.core.check import Answer, Check, CheckResult, run_check
from rolebook.core.comparison import Judge, digest_of
from rolebook.core.errors import (
    InputError,
    NotFoundError,
    Phrase,
    RolebookError,
    StorageError,
    UpstreamKeyError,
)
from rolebook.core.frozen import frozen
from rolebook.core.persona import ResolvedPersona
from rolebook.core.session import Session, SessionLog, Turn, TurnError, TurnStatus, new_id

#: What a judge's persona is told, by the names of its variables.
JUDGE_VARIABLES = ("rubric", "conversation", "reference")

#: So many opening braces are tried, from the end; no judge says more behind its verdict.
_MOST_BRACES = 200
_decoder = json.JSONDecoder()


@frozen
class Judgement:
    """What checks found on a turn, and the turn in which each rubric was judged, by the check's label."""

    results: tuple[CheckResult, ...]
    judged_by: Mapping[str, str]


def answer_of(turn: Turn, reference: str = "") -> Answer:
    """A turn as checks look at it."""
    return Answer(
        text=turn.text,
        finish_reason=turn.choice.finish_reason,
        cost=turn.cost,
        duration_ms=turn.duration_ms,
        reference=reference,
    )


def parse_verdict(text: str) -> tuple[bool | None, str]:
    """Whether the judge says that the rubric holds, and why; ``None`` where its answer does not say.

    The last JSON object with ``passed`` (or ``pass``) counts; a judge may think aloud before it.
    """
    places = [place for place, character in enumerate(text) if character == "{"]
    for place in reversed(places[-_MOST_BRACES:]):
        try:
            verdict, _ = _decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            continue
        passed = verdict.get("passed", verdict.get("pass"))
        if isinstance(passed, bool):
            return passed, " ".join(str(verdict.get("reason", "")).split())
    return None, ""


class Judging:
    """Runs checks. Safe for threads."""

    def __init__(self, *, chat: ChatService, log: SessionLog) -> None:
        self._chat = chat
        self._log = log

    def judge(
        self,
        checks: Sequence[Check],
        turn: Turn,
        *,
        conversation: Sequence[tuple[str, str]] = (),
        reference: str = "",
        judge: Judge | None = None,
        judge_persona: ResolvedPersona | None = None,
        comparison_id: str = "",
    ) -> Iterator[str | Turn | Judgement]:
        """Run checks on a complete turn: yields each judging turn, its id as it begins and itself when it has ended.

        The last is the Judgement.

        Arguments:
            conversation: what was said before, each an input and its answer.
            judge, judge_persona: who judges rubrics; without one they are left out.
        """
        answer = answer_of(turn, reference)
        results: list[CheckResult] = []
        judged_by: dict[str, str] = {}
        for check in checks:
            if not check.is_rubric:
                found = run_check(check, answer)
                results.append(replace(found, digest=digest_of(check, judge, reference)))
            elif judge is not None and judge_persona is not None:
                digest = digest_of(check, judge, reference)
                values = {
                    "rubric": check.rubric or "",
                    "conversation": _written(conversation, turn.input),
                    "reference": reference,
                }
                try:
                    session = Session(
                        id=new_id(),
                        persona_id=judge.persona_id,
                        revision=judge_persona.revision.id,
                        variables=judge_persona.persona.parse_variables(values),
                        model=judge.model,
                        upstream=judge.upstream,
                        comparison_id=comparison_id,
                        judges=turn.id,
                    )
                    events = self._ask(session, judge_persona, turn.text)
                except StorageError:
                    raise
                except RolebookError as error:
                    # This answer cannot be put to the judge. Others may be, which have nothing to do with it.
                    results.append(replace(not_judged(check, error.said), digest=digest))
                    continue
                for event in events:
                    if isinstance(event, TurnStarted):
                        yield event.turn.id
                    elif isinstance(event, TurnEnded):
                        # A judge that was stopped has said nothing, and can be asked again.
                        if event.turn.status is not TurnStatus.CANCELLED:
                            judged_by[check.label] = event.turn.id
                            results.append(replace(_result(check, event.turn), digest=digest))
                        yield event.turn
        yield Judgement(tuple(results), judged_by)

    def _ask(self, session: Session, persona: ResolvedPersona, answer: str) -> Iterator[TurnEvent]:
        """Raises at once where this answer cannot be put to the judge.

        That its upstream is not there, or has no key, is how its turn ends: it can be asked again.
        """
        prepared = self._chat.prepare(session, persona, answer)
        self._log.create_session(session, persona.revision)
        try:
            return self._chat.stream_prepared(
                session, prepared, answer, is_streamed=False, reader="nobody"
            )
        except (NotFoundError, UpstreamKeyError) as error:
            return iter([TurnEnded(self._fail(session, persona, answer, error))])

    def _fail(
        self, session: Session, persona: ResolvedPersona, answer: str, error: RolebookError
    ) -> Turn:
        chosen = session.upstream or persona.persona.upstream
        turn = Turn(
            id=new_id(),
            session_id=session.id,
            revision=persona.revision.id,
            input=answer,
            upstream=chosen or str(error.parameters.get("upstream", "")),
            model_requested=session.model or persona.persona.model,
        )
        failed = replace(
            self._log.start_turn(turn, persona.revision),
            status=TurnStatus.FAILED,
            error=TurnError(error.code, error.message, error.parameters),
        )
        self._log.finish_turn(failed)
        return failed


def _written(conversation: Sequence[tuple[str, str]], question: str) -> str:
    """A conversation up to its newest input as a judge reads it."""
    return json.dumps(
        [
            *(
                {"role": role, "content": text}
                for said, answered in conversation
                for role, text in (("user", said), ("assistant", answered))
            ),
            {"role": "user", "content": question},
        ],
        ensure_ascii=False,
        indent=1,
    )


def not_judged(rubric: Check, reason: Phrase) -> CheckResult:
    """That the judge cannot be asked about an answer, and why."""
    return rubric.result(None, Phrase("It could not be judged: %(reason)s", {"reason": reason}))


def _result(check: Check, turn: Turn) -> CheckResult:
    if turn.status is not TurnStatus.COMPLETE:
        reason = turn.error.said if turn.error else turn.status.value
        said = Phrase("The judge did not answer: %(reason)s", {"reason": reason})
        return check.result(None, said)
    has_passed, reason = parse_verdict(turn.text)
    if has_passed is None:
        said = Phrase("The judge's answer says neither that it passes nor that it fails.")
        return check.result(None, said)
    return check.result(has_passed, Phrase("%(reason)s", {"reason": reason or "–"}))


def require_judge(resolved: ResolvedPersona) -> None:
    """Raises InputError unless a persona can judge: it needs the judge's variables."""
    missing = [name for name in JUDGE_VARIABLES if name not in resolved.persona.variables]
    if missing:
        raise InputError(
            "The persona '%(id)s' cannot judge: it has no variable %(names)s.",
            id=resolved.persona.id,
            names=", ".join(missing),
        )
