"""Checks on an answer: deterministic ones at once, rubrics by a judge, which is a persona like any other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

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

#: Where JSON may begin that says something: an object with a key, by itself or in a list.
_BEGINNING = re.compile(r'(?:\[[ \t\r\n]*)?\{[ \t\r\n]*"')
#: No judge writes more that looks like JSON and is none. Each takes a look through the text before it.
_MOST_BROKEN = 1_000
_BRACKET = re.compile(r"[\[\]{}]")
#: Numbers say nothing of a verdict, and reading very long ones as integers is refused.
_decoder = json.JSONDecoder(parse_int=float)


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

    Of the JSON in it, the last that says ``passed`` (or ``pass``) counts, as a judge may think aloud before it; and
    there the outermost object that does, as it may look at one thing after the other inside. What comes last and
    cannot be read is no verdict, and what stands in it is none either. The time it takes grows with the text and no
    faster.
    """
    verdict: tuple[bool | None, str] = None, ""
    position = broken = 0
    while begun := _BEGINNING.search(text, position):
        try:
            value, position = _decoder.raw_decode(text, begun.start())
        except json.JSONDecodeError as error:
            # All up to the mistake was read, so that nothing there is read a second time.
            position = max(_end_of_broken(text, begun.start()), error.pos)
            verdict = None, ""
            broken += 1
            if broken > _MOST_BROKEN:
                return verdict
        except RecursionError:
            return None, ""
        else:
            verdict = _outermost_verdict(value) or verdict
    return verdict


def _end_of_broken(text: str, start: int) -> int:
    """Where JSON that cannot be read ends, as far as its brackets tell."""
    depth = 0
    for bracket in _BRACKET.finditer(text, start):
        depth += 1 if bracket[0] in "[{" else -1
        if depth == 0:
            return bracket.end()
    return len(text)


def _outermost_verdict(value: Any) -> tuple[bool | None, str] | None:
    """What the outermost objects of a JSON value say that say anything of it; several have to agree."""
    level = [value]
    while level:
        objects = [entry for entry in level if isinstance(entry, dict)]
        if told := [entry for entry in objects if "passed" in entry or "pass" in entry]:
            passed = _passed(told[-1])
            is_clear = isinstance(passed, bool) and all(_passed(said) is passed for said in told)
            reason = " ".join(str(told[-1].get("reason", "")).split())
            return (passed, reason) if is_clear else (None, "")
        lists = [entry for entry in level if isinstance(entry, list)]
        level = [*chain.from_iterable(entry.values() for entry in objects), *chain(*lists)]
    return None


def _passed(verdict: Mapping[str, Any]) -> Any:
    return verdict.get("passed", verdict.get("pass"))


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
