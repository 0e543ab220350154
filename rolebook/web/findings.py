"""What checks have found on answers, as pages show it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from rolebook.core.check import Check, CheckResult
from rolebook.core.frozen import frozen
from rolebook.core.persona import ResolvedPersona
from rolebook.core.session import Session, Turn, TurnStatus
from rolebook.web.current import rolebook

#: ``untold``: it was run, and could not be told. ``left``: it was never judged, or that was not the end of it.
State = Literal["passed", "failed", "untold", "judging", "left"]


@frozen
class Finding:
    """One check on one answer. ``judged_by`` is the turn in which a rubric was judged, or empty."""

    label: str
    state: State
    result: CheckResult | None = None
    judged_by: str = ""


@frozen
class Findings:
    """All checks on one answer. ``can_run``: its persona has checks that can be run on it now."""

    all: tuple[Finding, ...] = ()
    can_run: bool = False

    @property
    def passed(self) -> Sequence[Finding]:
        return [finding for finding in self.all if finding.state == "passed"]

    @property
    def others(self) -> Sequence[Finding]:
        """Those that somebody should look at."""
        return [finding for finding in self.all if finding.state != "passed"]

    @property
    def is_judging(self) -> bool:
        """Whether a judge is at work, so that it pays to look again."""
        return any(finding.state == "judging" for finding in self.all)


def findings_of(
    session: Session, resolved: ResolvedPersona, turns: Sequence[Turn]
) -> Mapping[str, Findings]:
    """What was found on the turns of a session, by the turns' ids.

    Arguments:
        resolved: the persona as it is now.
    """
    book = rolebook()
    ids = [turn.id for turn in turns]
    results = book.log.results_of_turns(ids)
    judges = book.comparisons.judging_turns(ids)
    checks = resolved.persona.checks if session.is_talk and not session.deleted_at else ()
    places = {check.label: place for place, check in enumerate(checks)}
    found = {}
    for turn in turns:
        known = [_finding(result, judges.get(turn.id, {})) for result in results.get(turn.id, ())]
        is_same = turn.revision == resolved.revision.id
        known = _merged(known, checks if is_same else (), book.live_checks.being_judged(turn.id))
        known.sort(key=lambda finding: places.get(finding.label, len(places)))
        can_run = bool(checks) and turn.status is TurnStatus.COMPLETE
        found[turn.id] = Findings(tuple(known), can_run)
    return found


def _finding(result: CheckResult, judges: Mapping[str, str]) -> Finding:
    state: State = {True: "passed", False: "failed", None: "untold"}[result.has_passed]  # type: ignore[assignment]
    return Finding(result.label, state, result, judges.get(result.label, ""))


def _merged(
    known: Sequence[Finding], checks: Sequence[Check], judging: Collection[str]
) -> list[Finding]:
    """With the rubrics that nobody has judged yet; one that is judged again has no result meanwhile."""
    told = [finding for finding in known if finding.label not in judging]
    labels = {finding.label for finding in known} | set(judging)
    left = [c.label for c in checks if c.is_rubric and c.live and c.label not in labels]
    return [
        *told,
        *(Finding(label, "judging") for label in judging),
        *(Finding(label, "left") for label in left if told),
    ]
