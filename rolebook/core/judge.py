"""Checks on an answer: deterministic ones at once, rubrics by a judge, which is a persona like any other."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from rolebook.core.chat import ChatService, TurnEnded, TurnEvent, TurnStarted
from rolebook.core.check import Answer, Check, CheckResult, run_check
from rolebook.core.comparison import Judge, digest_of
from rolebook.core.errors import (
    CutOffError,
    InputError,
    NotFoundError,
    Phrase,
    RolebookError,
    StorageError,
    UpstreamKeyError,
)
from rolebook.core.frozen import frozen
from rolebook.core.persona import ResolvedPersona
from rolebook.core.session import (
    Revision,
    Session,
    SessionLog,
    Turn,
    TurnStatus,
    new_id,
)

#: What a judge's persona is told, by the names of its variables.
JUDGE_VARIABLES = ("rubric", "conversation", "reference")

#: Where JSON may begin that says something: an object with a key, by itself or in a list.
_BEGINNING = re.compile(r'(?:\[[ \t\r\n]*)?\{[ \t\r\n]*"')
#: No judge writes more that looks like JSON and is none. Each takes a look through the text before it.
_MOST_BROKEN = 1_000
_BRACKET = re.compile(r"[\[\]{}]")
#: Numbers say nothing of a verdict, and reading very long ones as integers is refused. Line breaks in texts are none
#: of JSON's, but of many models'.
_decoder = json.JSONDecoder(parse_int=float, strict=False)
#: What JSON knows behind a backslash; else it is one of a formula, as in ``\(x\)``.
_BACKSLASH = re.compile(r'\\(["\\/bfnrt]|u[0-9a-fA-F]{4}|)')
#: What some models think before they answer.
_THOUGHT = re.compile(r"\s*<think>.*?</think>", re.DOTALL)


def judge_at(
    resolved: ResolvedPersona,
    model_of: Callable[[str], str],
    *,
    model: str = "",
    upstream: str = "",
) -> Judge:
    """A persona as a judge. Where nothing names its model, that is the upstream's default as it is now: verdicts of
    another one are those of another judge.

    Arguments:
        model_of: gives the default model of an upstream, or nothing.
    """
    persona = resolved.persona
    if not model and not persona.model:
        model = model_of(upstream or persona.upstream)
    return Judge(persona.id, resolved.revision.id, model, upstream)


@frozen
class AskedJudge:
    """Who judges, as it is asked: by which persona, and by the upstream that answers for it; empty: its own."""

    judge: Judge
    persona: ResolvedPersona
    upstream: str = ""


@frozen
class Judgement:
    """What checks found on a turn. One that ``is_recorded`` is in the log, with the turn of the judge who said it."""

    results: tuple[CheckResult, ...]
    is_recorded: bool = False


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
    if thought := _THOUGHT.match(text):
        text = text[thought.end() :]
    text = _BACKSLASH.sub(lambda found: found[0] if found[1] else r"\\", text)
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
        asked: AskedJudge | None = None,
        comparison_id: str = "",
    ) -> Iterator[str | Turn | Judgement]:
        """Run checks on a complete turn: yields each judging turn, its id as it begins and itself when it has ended.

        What was found comes as soon as it is, a Judgement each: that of the rules, and that on each rubric.

        Arguments:
            conversation: what was said before, each an input and its answer.
            asked: who judges rubrics; without one they are left out.
        """
        answer = answer_of(turn, reference)
        judge = asked.judge if asked else None
        rules = [check for check in checks if not check.is_rubric]
        if rules:
            yield Judgement(
                tuple(
                    replace(run_check(check, answer), digest=digest_of(check, judge, reference))
                    for check in rules
                )
            )
        if asked is None:
            return
        said = _written(conversation, turn.input)
        for check in checks:
            if check.is_rubric:
                values = {
                    "rubric": check.rubric or "",
                    "conversation": said,
                    "reference": reference,
                }
                verdict = _Verdict(self._log, check, digest_of(check, asked.judge, reference))
                session = Session(
                    id=new_id(),
                    persona_id=asked.judge.persona_id,
                    revision=asked.persona.revision.id,
                    variables=values,
                    model=asked.judge.model,
                    upstream=asked.upstream or asked.judge.upstream,
                    comparison_id=comparison_id,
                    judges=turn.id,
                )
                yield from self._judged(verdict, session, asked.persona, turn.text)

    def _judged(
        self, verdict: _Verdict, session: Session, persona: ResolvedPersona, answer: str
    ) -> Iterator[str | Turn | Judgement]:
        try:
            events = self._ask(session, persona, answer, verdict)
        except StorageError:
            raise
        except RolebookError as error:
            # This answer cannot be put to the judge. Others may be, which have nothing to do with it.
            yield Judgement((verdict.not_asked(error.said),))
            return
        for event in events:
            if isinstance(event, TurnStarted):
                yield event.turn.id
            elif isinstance(event, TurnEnded):
                yield event.turn
                if verdict.result:
                    yield Judgement((verdict.result,), is_recorded=True)

    def _ask(
        self, session: Session, persona: ResolvedPersona, answer: str, verdict: _Verdict
    ) -> Iterator[TurnEvent]:
        """Raises at once where this answer cannot be put to the judge.

        That its upstream is not there, or has no key, is how its turn ends: it can be asked again.
        """
        values = persona.persona.parse_variables(session.variables)
        session = replace(session, variables=values)
        prepared = self._chat.prepare(session, persona, answer)
        self._log.create_session(session, persona.revision)
        try:
            return self._chat.stream_prepared(
                session, prepared, answer, is_streamed=False, reader="nobody", recorder=verdict
            )
        except (NotFoundError, UpstreamKeyError) as error:
            return iter([TurnEnded(_fail(session, persona, answer, error, verdict))])


class _Verdict:
    """Records a judge's turn together with what it says, so that nothing can come between them.

    ``result`` is there when the turn has ended, unless the judge was stopped.
    """

    def __init__(self, log: SessionLog, rubric: Check, digest: str) -> None:
        self.result: CheckResult | None = None
        self._log = log
        self._rubric = rubric
        self._digest = digest

    def not_asked(self, reason: Phrase) -> CheckResult:
        """That the judge cannot be asked, and why; recorded by whoever wants that."""
        return replace(not_judged(self._rubric, reason), digest=self._digest)

    def start_turn(self, turn: Turn, revision: Revision) -> Turn:
        """As SessionLog.start_turn."""
        return self._log.start_turn(turn, revision)

    def finish_turn(self, turn: Turn) -> None:
        """As SessionLog.finish_turn."""
        # A judge that was stopped has said nothing, and can be asked again.
        if turn.status is TurnStatus.CANCELLED or _is_cut_off(turn):
            self._log.finish_turn(turn)
            return
        result = replace(_result(self._rubric, turn), digest=self._digest)
        self._log.finish_turn(turn, (result,))
        self.result = result


def _is_cut_off(turn: Turn) -> bool:
    return turn.error is not None and turn.error.code == CutOffError.code


def _fail(
    session: Session,
    persona: ResolvedPersona,
    answer: str,
    error: RolebookError,
    verdict: _Verdict,
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
    failed = verdict.start_turn(turn, persona.revision).failed_with(error)
    verdict.finish_turn(failed)
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
    return check.result(has_passed, _reason(reason or "–", turn))


def _reason(reason: str, turn: Turn) -> Phrase:
    """Why a judge says so; and who, where that was another one than was asked."""
    if not turn.upstream_requested:
        return Phrase("%(reason)s", {"reason": reason})
    words = {
        "reason": reason,
        "stand_in": turn.upstream,
        "model": turn.model or "?",
        "asked": turn.upstream_requested,
    }
    return Phrase(
        "%(reason)s (Judged by %(stand_in)s with %(model)s, in place of %(asked)s.)", words
    )


def require_judge(resolved: ResolvedPersona) -> None:
    """Raises InputError unless a persona can judge: it needs the judge's variables."""
    missing = [name for name in JUDGE_VARIABLES if name not in resolved.persona.variables]
    if missing:
        raise InputError(
            "The persona '%(id)s' cannot judge: it has no variable %(names)s.",
            id=resolved.persona.id,
            names=", ".join(missing),
        )
