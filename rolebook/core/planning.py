"""From what somebody wrote to a comparison whose every cell is decided: personas at a revision, inputs from the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from rolebook.core.chat import ChatService, Library, Upstreams
from rolebook.core.comparison import (
    Comparison,
    ComparisonInput,
    ComparisonLog,
    Judge,
    LeftOut,
    Variant,
)
from rolebook.core.comparison_spec import (
    MAX_CELLS,
    TOO_MANY_CELLS,
    ComparisonSpec,
    InputSpec,
    JudgeSpec,
    VariantSpec,
)
from rolebook.core.errors import (
    InputError,
    NotFoundError,
    Phrase,
    RolebookError,
    UpstreamKeyError,
    VariableError,
)
from rolebook.core.fault import FaultyDataError
from rolebook.core.fields import in_line
from rolebook.core.fixed import answer_wanted
from rolebook.core.frozen import frozen
from rolebook.core.judge import judge_at, require_judge
from rolebook.core.message import Message
from rolebook.core.persona import Persona, ResolvedPersona, persona_of_revision
from rolebook.core.prompt import history_messages
from rolebook.core.reference import SHORT_REVISION
from rolebook.core.session import Revision, Session, SessionLog, Turn, TurnStatus, new_id, now

#: The name of the variant that holds the recorded answers. Pages translate it.
AS_RECORDED = "As recorded"
_WHOLE_REVISION = 32
_BEYOND = "With images, tools or whatever else is no text and cannot be asked again, in '%(session)s': %(turns)s."
_PENDING = "Still being answered in '%(session)s': %(turns)s."
_WORDLESS = "Without any words in '%(session)s': %(turns)s."
#: So many turns are named that are not taken, each by so much of what was said.
_MOST_NAMED, _SHORT_INPUT = 10, 40
#: After so many mistakes the rest is not worth reading.
_MOST_FAULTS = 100

Path = tuple[str | int, ...]
"""Where something stands in the data of a comparison, from its root."""


@frozen
class PlanFault:
    """Why a part of a comparison, at ``path``, cannot be planned."""

    path: Path
    error: RolebookError


@frozen
class Plan:
    """A comparison that is not recorded yet, with the personas of its variants and of its judge.

    ``personas`` are by the id of their revision. ``left_out`` says of each input from the log why it is not taken.
    """

    comparison: Comparison
    personas: Mapping[str, ResolvedPersona]
    left_out: tuple[PlanFault, ...] = ()

    @property
    def revisions(self) -> Sequence[Revision]:
        """The revisions of all personas."""
        return [persona.revision for persona in self.personas.values()]


class UnplannableError(InputError):
    """A comparison that cannot be planned, with all that is wrong in it; its own message is that of the first."""

    def __init__(self, faults: Sequence[PlanFault]) -> None:
        first = faults[0].error
        super().__init__(first.message, **first.parameters)
        self.faults = tuple(faults)


class NothingSaidYetError(InputError):
    """Inputs are wanted that a persona had, and it had none so far; some may come."""


class _Faults:
    """Collects why a comparison cannot be planned."""

    def __init__(self) -> None:
        self._found: list[PlanFault] = []

    @contextmanager
    def at(self, *path: str | int) -> Iterator[None]:
        """Note what is raised inside, as being about this part, and go on."""
        try:
            yield
        except VariableError as error:
            self.add((*path, "variables", error.name), error)
        except (InputError, NotFoundError, UpstreamKeyError) as error:
            self.add(path, error)

    def add(self, path: Path, error: RolebookError) -> None:
        self._found.append(PlanFault(path, error))
        if len(self._found) >= _MOST_FAULTS:
            self.raise_if_any()

    def raise_if_any(self) -> None:
        if self._found:
            raise UnplannableError(self._found)


class Planner:
    """Makes plans over a library, a log and upstreams.

    Arguments:
        judge_id: the persona that judges where a plan names none.
    """

    def __init__(
        self,
        *,
        library: Library,
        log: SessionLog,
        comparisons: ComparisonLog,
        upstreams: Upstreams,
        chat: ChatService,
        judge_id: str,
    ) -> None:
        self._library = library
        self._log = log
        self._comparisons = comparisons
        self._judge_id = judge_id
        self._upstreams = upstreams
        self._chat = chat

    def plan(self, spec: ComparisonSpec) -> Plan:
        """Decide everything about a comparison. Calls nobody and writes nothing.

        Raises UnplannableError with all that is wrong.
        """
        faults = _Faults()
        inputs: list[ComparisonInput] = []
        origins: list[int] = []
        answered: dict[str, str] = {}
        unsaid: list[PlanFault] = []
        for index, said in enumerate(spec.inputs):
            with faults.at("inputs", index):
                beyond: list[Turn] = []
                inputs += self._inputs(said, answered, beyond)
                origins += [index] * (len(inputs) - len(origins))
                unsaid += [PlanFault(("inputs", index), why) for why in self._unsaid(said, beyond)]
        if unsaid and not inputs:
            faults.add(unsaid[0].path, _nothing_said(unsaid[0].error))
        resolved: list[ResolvedPersona] = []
        for index, given in enumerate(spec.variants):
            with faults.at("variants", index):
                resolved.append(self._resolved(given, spec))
                self._require_answerable(given, resolved[-1])
        judge = self._judge(spec, resolved, faults)
        faults.raise_if_any()
        names = names_of(spec.variants, [persona.persona for persona in resolved])
        variants = [
            _variant(given, persona, name)
            for given, persona, name in zip(spec.variants, resolved, names, strict=True)
        ]
        personas = {persona.revision.id: persona for persona in resolved}
        inputs, misfits = _sift(variants, personas, inputs, origins, faults)
        left_out = (*unsaid, *misfits)
        if spec.recorded and any(entry.recorded for entry in inputs):
            recorded, persona = self._recorded_variant(inputs, answered)
            variants.insert(0, recorded)
            personas.setdefault(recorded.revision, persona)
        if judge:
            personas.setdefault(judge.revision.id, judge)
        comparison = Comparison(
            id=new_id(),
            question=" ".join(spec.question.split()),
            variants=tuple(variants),
            inputs=tuple(inputs),
            repeats=spec.repeats,
            checks=spec.checks,
            judge=self._judge_at(spec.judge, judge) if judge else None,
            concurrency=spec.concurrency,
            is_streamed=spec.stream,
            left_out=_by_reason(left_out),
        )
        with faults.at("inputs"):
            _require_sensible_size(comparison)
        _require_clear_names(comparison, personas, faults)
        faults.raise_if_any()
        return Plan(comparison, personas, left_out)

    def again(self, comparison: Comparison, personas: Mapping[str, ResolvedPersona]) -> Plan:
        """The same comparison once more, with nothing in it yet.

        Arguments:
            personas: of its variants and its judge, by the id of their revision.

        Raises UnplannableError where an upstream is not there, or a variable does not fit.
        """
        faults = _Faults()
        answering = [
            (n, each) for n, each in enumerate(comparison.variants) if not each.is_recorded
        ]
        for index, variant in answering:
            with faults.at("variants", index):
                named = variant.upstream or personas[variant.revision].persona.upstream
                self._upstreams.get(named or self._known_upstream(comparison.upstream))
        judge = comparison.judge
        if judge is not None:
            with faults.at("judge", "upstream"):
                named = judge.upstream or personas[judge.revision].persona.upstream
                self._upstreams.get(named or self._known_upstream(comparison.upstream))
        for number, entry in enumerate(comparison.inputs, start=1):
            for _, variant in answering:
                misfit = _misfit(variant, entry, personas[variant.revision].persona)
                if misfit:
                    faults.add(("inputs", number - 1), _in_input(number, misfit))
        faults.raise_if_any()
        again = replace(
            comparison,
            id=new_id(),
            upstream=self._known_upstream(comparison.upstream),
            repeats_of=comparison.id,
            created_at=now(),
            deleted_at="",
        )
        return Plan(again, personas)

    def _known_upstream(self, usual: str) -> str:
        """What was the default elsewhere or once, or nothing where there is no upstream of that name."""
        with suppress(UpstreamKeyError):
            try:
                self._upstreams.get(usual)
            except NotFoundError:
                return ""
        return usual

    def _resolved(self, given: VariantSpec, spec: ComparisonSpec) -> ResolvedPersona:
        if given.system:
            resolved = self._library.get_described(given.system)
        else:
            at = f"@{given.revision}" if given.revision else ""
            resolved = self._library.get_persona(f"{given.persona}{at}")
        changes = dict(given.changes)
        if spec.context is not None:
            changes["context"] = spec.context.model_dump()
        return self._library.get_changed(resolved, changes) if changes else resolved

    def _require_answerable(self, given: VariantSpec, resolved: ResolvedPersona) -> None:
        """Raises InputError for an upstream or a variable that there is not."""
        self._upstreams.get(given.upstream or resolved.persona.upstream)
        for variable in given.variables:
            if variable not in resolved.persona.variables:
                resolved.persona.parse_variables(given.variables)

    def _judge(
        self, spec: ComparisonSpec, answering: Sequence[ResolvedPersona], faults: _Faults
    ) -> ResolvedPersona | None:
        """The persona that judges, if there is a rubric. Notes why it cannot."""
        checks = [*spec.checks, *(check for p in answering for check in p.persona.checks)]
        if any(check.is_rubric for check in checks):
            with faults.at("judge", "persona"):
                resolved = self._library.get_persona(spec.judge.persona or self._judge_id)
                require_judge(resolved)
                with faults.at("judge", "upstream"):
                    self._upstreams.get(spec.judge.upstream or resolved.persona.upstream)
                return resolved
        return None

    def _judge_at(self, given: JudgeSpec, resolved: ResolvedPersona) -> Judge:
        known = self._upstreams.known_model
        return judge_at(resolved, known, model=given.model, upstream=given.upstream)

    def _recorded_variant(
        self, inputs: Sequence[ComparisonInput], answered: Mapping[str, str]
    ) -> tuple[Variant, ResolvedPersona]:
        first, *others = dict.fromkeys(answered[id] for entry in inputs for id in entry.recorded)
        revision = self._log.get_revision(first)
        variant = Variant(
            AS_RECORDED, revision.persona_id, first, is_recorded=True, others=tuple(others)
        )
        return variant, persona_at(revision)

    def _inputs(
        self, given: InputSpec, answered: dict[str, str], beyond: list[Turn]
    ) -> Iterator[ComparisonInput]:
        """What is said by one entry.

        Arguments:
            answered: gets the revision that has answered each turn of the log that is taken.
            beyond: gets the turns that a program asked for with more than can be asked again.
        """
        if given.session:
            yield from self._session_inputs(given, answered, beyond)
        elif given.persona:
            turns = self._comparisons.recent_turns(given.persona, given.last)
            if not turns:
                raise NothingSaidYetError(
                    "The log has no turn with '%(persona)s' yet, so there is nothing to compare by.",
                    persona=given.persona,
                )
            talks = {id: self._talk(id) for id in dict.fromkeys(turn.session_id for turn in turns)}
            for turn in turns:
                session, history = talks[turn.session_id]
                # The one that counts there, where the newest attempt has failed.
                counts = next((each for each in history if each.position == turn.position), turn)
                answered[counts.id] = counts.revision
                yield from self._fixed(given, counts, session, history, beyond)
        else:
            yield ComparisonInput(
                turns=given.texts,
                earlier=tuple((turn.user, turn.assistant) for turn in given.earlier),
                name=given.name,
                variables=given.variables,
                reference=given.reference,
                tags=given.tags,
            )

    def _talk(self, session_id: str) -> tuple[Session, Sequence[Turn]]:
        return self._log.get_session(session_id), self._log.history(session_id)

    def _session_inputs(
        self, given: InputSpec, answered: dict[str, str], beyond: list[Turn]
    ) -> Iterator[ComparisonInput]:
        session, history = self._talk(given.session)
        turns = [turn for turn in self._log.latest_turns(session.id) if _is_replayable(turn)]
        if not turns:
            return
        answered |= {turn.id: turn.revision for turn in turns}
        if given.history == "free":
            beyond += [turn for turn in turns if self._context_of(turn, session, ()) is None]
            turns = [turn for turn in turns if turn not in beyond]
            if not turns:
                return
            yield ComparisonInput(
                turns=tuple(turn.input for turn in turns),
                name=given.name or session.title,
                variables={**session.variables, **given.variables},
                reference=given.reference,
                tags=given.tags or session.tags,
                request=self._request_of(turns[-1]),
                source=session.id,
                recorded=tuple(turn.id for turn in turns),
            )
            return
        for turn in turns:
            yield from self._fixed(given, turn, session, history, beyond)

    def _fixed(
        self,
        given: InputSpec,
        turn: Turn,
        session: Session,
        history: Sequence[Turn],
        beyond: list[Turn],
    ) -> Iterator[ComparisonInput]:
        """What was said in a turn, after all that its answer was given after, whole answers or not.

        Arguments:
            history: what counts in its session.
        """
        before = [earlier for earlier in history if earlier.position < turn.position]
        sent = self._context_of(turn, session, before)
        if sent is None:
            beyond.append(turn)
            return
        yield ComparisonInput(
            turns=(turn.input,),
            name=given.name,
            variables={**session.variables, **given.variables},
            reference=given.reference,
            tags=given.tags or session.tags,
            follows=before[-1].id if before and not sent else "",
            sent=tuple((message.role, message.content) for message in sent),
            request=self._request_of(turn),
            source=session.id,
            recorded=(turn.id,),
        )

    def _request_of(self, turn: Turn) -> Mapping[str, Any]:
        """What was wanted of its answer besides what its persona says of that itself."""
        wanted = answer_wanted(turn.parameters_requested)
        if not wanted:
            return {}
        own: Mapping[str, Any] = {}
        with suppress(InputError):
            own = persona_at(self._log.get_revision(turn.revision)).persona.parameters
        return {n: value for n, value in wanted.items() if n not in own or own[n] != value}

    def _context_of(
        self, turn: Turn, session: Session, before: Sequence[Turn]
    ) -> Sequence[Message] | None:
        """What a program had sent before a turn, if that is more than the log's history or another one.

        ``None`` where something else than texts belongs to it, such as an image or the result of a tool, or something
        was sent behind the input.
        """
        if turn.via != "gateway":
            return ()
        whole = self._log.get_turn(turn.id)
        try:
            sent = self._chat.sent_before(session, whole)
            if sent is None or any(message.fields for message in sent):
                return () if self._chat.is_sent_after(session, whole, before) else None
        except (InputError, FaultyDataError):
            return None
        said = history_messages([(earlier.input, earlier.text) for earlier in before])
        is_known = turn.dropped_turns or len(sent) == len(said)
        return () if is_known and tuple(sent) == said[len(said) - len(sent) :] else sent

    def _unsaid(self, given: InputSpec, beyond: Sequence[Turn]) -> Iterator[RolebookError]:
        """For each other turn why it is not taken, one sentence for all alike of a session; and if that has no turn."""
        for session_id in dict.fromkeys(turn.session_id for turn in beyond):
            turns = [turn for turn in beyond if turn.session_id == session_id]
            yield from _telling(_BEYOND, self._log.get_session(session_id), turns)
        if not given.session:
            return
        session = self._log.get_session(given.session)
        latest = self._log.latest_turns(session.id)
        if not latest:
            yield InputError("Nothing has been said in '%(session)s' yet.", session=_title(session))
        others = [turn for turn in latest if not _is_replayable(turn)]
        wordless = [turn for turn in others if not turn.input.strip()]
        pending = [turn for turn in others if turn.input.strip()]
        yield from _telling(_PENDING, session, pending)
        yield from _telling(_WORDLESS, session, wordless)


def _telling(message: str, session: Session, turns: Sequence[Turn]) -> Iterator[InputError]:
    """The same sentence about turns of a session for each of them."""
    named = [_named(turn) for turn in turns[:_MOST_NAMED]]
    more = ["…"] if len(turns) > _MOST_NAMED else []
    for _ in turns:
        yield InputError(message, session=_title(session), turns=" · ".join([*named, *more]))


def _title(session: Session) -> str:
    return in_line(session.title) or session.id


def _is_replayable(turn: Turn) -> bool:
    return turn.status is not TurnStatus.PENDING and bool(turn.input.strip())


def _named(turn: Turn) -> str:
    """A turn by its place in its session and the beginning of what was said."""
    said = in_line(turn.input.strip(), _SHORT_INPUT)
    return f"{turn.position} “{said}”" if said else str(turn.position)


def _variant(given: VariantSpec, resolved: ResolvedPersona, name: str) -> Variant:
    return Variant(
        name=name,
        persona_id=given.persona,
        revision=resolved.revision.id,
        model=given.model,
        upstream=given.upstream,
        variables=given.variables,
        parameters=given.parameters,
    )


def persona_at(revision: Revision) -> ResolvedPersona:
    """The persona as it was at a revision. Raises InputError if today's format cannot read it."""
    try:
        return persona_of_revision(revision)
    except FaultyDataError:
        raise InputError(
            "The revision %(revision)s of '%(persona)s' is recorded in a form that this version"
            " of Rolebook cannot use.",
            revision=revision.id[:SHORT_REVISION],
            persona=revision.persona_id,
        ) from None


def values_for(variant: Variant, entry: ComparisonInput, persona: Persona) -> Mapping[str, Any]:
    """The variables that a variant gets with an input: its own win over those of the input that it knows."""
    known = {name: value for name, value in entry.variables.items() if name in persona.variables}
    return {**known, **variant.variables}


def names_of(variants: Sequence[VariantSpec], personas: Sequence[Persona]) -> Sequence[str]:
    """A name for each, told apart by what is different, in the end by a number."""
    plain = [given.name or persona.name for given, persona in zip(variants, personas, strict=True)]
    taken = Counter(plain)
    names: list[str] = [AS_RECORDED]
    for given, name in zip(variants, plain, strict=True):
        full = name
        if taken[name] > 1 and not given.name:
            full = f"{name} ({marks})" if (marks := _marks(given)) else name
        number = 2
        unique = full
        while unique in names:
            unique, number = f"{full} {number}", number + 1
        names.append(unique)
    return names[1:]


def _marks(given: VariantSpec) -> str:
    settings = {**given.parameters, **given.variables}
    parts = [
        f"@{_short(given.revision)}" if given.revision else "",
        given.model,
        given.upstream,
        *(f"{name} {value}" for name, value in settings.items()),
        *given.changes,
    ]
    return ", ".join(str(part) for part in parts if part)


def _short(pin: str) -> str:
    """A label or the beginning of a revision as it was given; of a whole one its beginning."""
    return pin[:SHORT_REVISION] if len(pin) == _WHOLE_REVISION else pin


def _require_sensible_size(comparison: Comparison) -> None:
    """Raises InputError for more cells than can be meant."""
    count = len(comparison.variants) * len(comparison.inputs) * comparison.repeats
    if count > MAX_CELLS:
        raise InputError(TOO_MANY_CELLS, count=count, limit=MAX_CELLS)


def _sift(
    variants: Sequence[Variant],
    personas: Mapping[str, ResolvedPersona],
    inputs: Sequence[ComparisonInput],
    origins: Sequence[int],
    faults: _Faults,
) -> tuple[list[ComparisonInput], list[PlanFault]]:
    """The inputs whose variables fit, and why others from the log do not.

    What does not fit of what somebody has written, or if nothing is left of what was taken from the log, is noted.

    Arguments:
        variants: those that answer.
        origins: for each input the place of what it came from.
    """
    known = {name for variant in variants for name in personas[variant.revision].persona.variables}
    kept: list[ComparisonInput] = []
    left_out: list[PlanFault] = []
    told: set[str] = set()
    for number, (entry, index) in enumerate(zip(inputs, origins, strict=True), start=1):
        at = ("inputs", index, "variables")
        if unknown := [name for name in entry.variables if name not in known and not entry.source]:
            # A column without a variable is in every row.
            for name in unknown:
                if name not in told:
                    faults.add((*at, name), _unknown_variable(number, name, known))
            told.update(unknown)
            continue
        own, others = _misfits(variants, personas, entry)
        # What a variant says itself goes with every input, so it is told with the first.
        for place, misfit in own if number == 1 else ():
            faults.add(("variants", place, "variables", misfit.name), _in_input(number, misfit))
        if not others:
            kept.append(entry)
        elif entry.source:
            left_out.append(PlanFault((*at, others[0].name), others[0]))
        else:
            faults.add((*at, others[0].name), _in_input(number, others[0]))
    if left_out and not kept:
        faults.add(left_out[0].path, _nothing_left(left_out[0].error))
    return kept, left_out


def _unknown_variable(number: int, name: str, known: Collection[str]) -> InputError:
    return InputError(
        "Input %(number)d: no persona of this comparison has a variable '%(name)s'. There are: %(known)s. Rename it, or"
        " take it out; in a file of inputs only the columns input, name, reference and tags are no variables.",
        number=number,
        name=name,
        known=", ".join(sorted(known)) or "–",
    )


def _by_reason(faults: Sequence[PlanFault]) -> tuple[LeftOut, ...]:
    reasons = {str(fault.error): fault.error.said for fault in faults}
    counts = Counter(str(fault.error) for fault in faults)
    return tuple(LeftOut(counts[text], reason) for text, reason in reasons.items())


def _nothing_said(why: RolebookError) -> InputError:
    return InputError(
        "There is nothing that could be asked. %(reason)s Take another session, or other inputs.",
        reason=Phrase(why.message, why.parameters),
    )


def _nothing_left(misfit: RolebookError) -> InputError:
    return InputError(
        "None of the inputs fits. %(reason)s Give this variable a value that fits, or take other inputs.",
        reason=Phrase(misfit.message, misfit.parameters),
    )


def _misfits(
    variants: Sequence[Variant], personas: Mapping[str, ResolvedPersona], entry: ComparisonInput
) -> tuple[list[tuple[int, VariableError]], list[VariableError]]:
    """What does not fit of what variants say themselves, each with its place, and of what the input says."""
    own: list[tuple[int, VariableError]] = []
    others: list[VariableError] = []
    for place, variant in enumerate(variants):
        misfit = _misfit(variant, entry, personas[variant.revision].persona)
        if misfit and misfit.name in variant.variables:
            own.append((place, misfit))
        elif misfit:
            others.append(misfit)
    return own, others


def _misfit(variant: Variant, entry: ComparisonInput, persona: Persona) -> VariableError | None:
    """What does not fit of the variables that a variant gets with an input."""
    try:
        persona.parse_variables(values_for(variant, entry, persona))
    except VariableError as error:
        return VariableError(
            "'%(variant)s': %(reason)s",
            name=error.name,
            variant=variant.name,
            reason=Phrase(error.message, error.parameters),
        )
    return None


def _in_input(number: int, misfit: VariableError) -> VariableError:
    """The same as being about one of several inputs."""
    return VariableError(
        "Input %(number)d with '%(variant)s': %(reason)s",
        **{**misfit.parameters, "name": misfit.name, "number": number},
    )


def _require_clear_names(
    comparison: Comparison, personas: Mapping[str, ResolvedPersona], faults: _Faults
) -> None:
    """Note a check that goes by the name of another one: nobody could tell their results apart."""
    for variant in comparison.variants:
        own = {check.label: check.digest for check in personas[variant.revision].persona.checks}
        for index, check in enumerate(comparison.checks):
            if own.get(check.label, check.digest) != check.digest:
                error = InputError(
                    "The check '%(name)s' of the comparison demands something else than that of '%(variant)s'."
                    " Give it another name.",
                    name=check.label,
                    variant=variant.name,
                )
                faults.add(("checks", index), error)
