"""What the cells of a comparison would send, each by its variant and its input, before anything is called."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from rolebook.core.chat import ChatService, PreparedTurn
from rolebook.core.check import Check
from rolebook.core.comparison import (
    CellKey,
    Comparison,
    ComparisonInput,
    ComparisonLog,
)
from rolebook.core.errors import InputError, NotFoundError, UpstreamError, UpstreamKeyError
from rolebook.core.fixed import beside
from rolebook.core.judge import AskedJudge
from rolebook.core.persona import Persona, ResolvedPersona
from rolebook.core.planning import persona_at, values_for
from rolebook.core.session import Session, SessionLog, Turn, new_id

_MOST_PERSONAS = 500

#: There is no upstream of that name, or it has no key.
MissingError = NotFoundError | UpstreamKeyError


class Cells:
    """The cells of comparisons as they would be asked. Calls nobody and writes nothing. Safe for threads."""

    def __init__(self, *, log: SessionLog, comparisons: ComparisonLog, chat: ChatService) -> None:
        self._log = log
        self._comparisons = comparisons
        self._chat = chat
        self._personas: dict[str, ResolvedPersona] = {}

    def persona_of(self, revision_id: str) -> ResolvedPersona:
        """A persona at a revision. Raises NotFoundError, InputError."""
        known = self._personas.get(revision_id)
        if known is None:
            known = persona_at(self._log.get_revision(revision_id))
            self.keep({revision_id: known})
        return known

    def keep(self, personas: Mapping[str, ResolvedPersona]) -> None:
        """Reading one from the log takes a millisecond, so those in use are kept; drafts would pile up."""
        if len(self._personas) > _MOST_PERSONAS:
            self._personas = {}
        self._personas = {**self._personas, **personas}

    def checks_of(self, comparison: Comparison, variant: int) -> Sequence[Check]:
        """What the answers of a variant must be: the persona's checks, then those of the comparison."""
        revisions = comparison.variants[variant].revisions
        return comparison.checks_with(*(self.persona_of(id).persona.checks for id in revisions))

    def session_of(self, comparison: Comparison, key: CellKey) -> Session:
        """A new session for a cell, not recorded yet."""
        variant, entry = comparison.variants[key.variant], comparison.inputs[key.input]
        persona = self.persona_of(variant.revision).persona
        return Session(
            id=new_id(),
            persona_id=variant.persona_id,
            revision=variant.revision,
            variables=persona.parse_variables(values_for(variant, entry, persona)),
            upstream=variant.upstream,
            model=variant.model,
            parameters={
                **beside({**persona.parameters, **variant.parameters}, entry.request),
                **variant.parameters,
            },
            forked_from=entry.follows,
            comparison_id=comparison.id,
        )

    def prepare(self, comparison: Comparison, key: CellKey) -> PreparedTurn:
        """What the first turn of a cell would send. Calls nobody and writes nothing.

        Raises VariableError, PromptError, NotFoundError if the turn that it follows is gone.
        """
        entry = comparison.inputs[key.input]
        persona = self.persona_of(comparison.variants[key.variant].revision)
        session = self.session_of(comparison, key)
        prepared = self._chat.prepare(session, persona, entry.text, self.history_of(entry))
        return replace(prepared, upstream=self.upstream_of_variant(comparison, key.variant)[0])

    def planned_turn(
        self, comparison: Comparison, key: CellKey, prepared: PreparedTurn | None = None
    ) -> Turn:
        """The first turn of a cell as it would be recorded before its call. Calls nobody and writes nothing.

        Arguments:
            prepared: what it would send, if that is known already.

        Raises what ``prepare`` raises; NotFoundError and UpstreamKeyError for an upstream that cannot be asked.
        """
        prepared = prepared or self.prepare(comparison, key)
        return self._asked(comparison, key, prepared, self.known_model)

    def planned_turns(
        self,
        comparison: Comparison,
        keys: Iterable[CellKey],
        model_of: Callable[[PreparedTurn], str],
    ) -> Mapping[CellKey, Turn]:
        """The turns of cells as they would be recorded, those that repeat one another the same.

        Only of inputs of one turn: what later ones send hangs on the answers before.

        Arguments:
            model_of: the model that will be asked.
        """
        asked: dict[CellKey, Turn | None] = {}
        for key in keys:
            first = key._replace(repeat=0)
            if first not in asked and len(comparison.inputs[key.input].turns) == 1:
                try:
                    prepared = self.prepare(comparison, first)
                    asked[first] = self._asked(comparison, first, prepared, model_of)
                except (InputError, NotFoundError, UpstreamError):
                    # It says so itself when it is to be filled.
                    asked[first] = None
        turns = ((key, asked.get(key._replace(repeat=0))) for key in keys)
        return {key: turn for key, turn in turns if turn}

    def _asked(
        self,
        comparison: Comparison,
        key: CellKey,
        prepared: PreparedTurn,
        model_of: Callable[[PreparedTurn], str],
    ) -> Turn:
        asked = self._chat.pending_turn(
            self.session_of(comparison, key), prepared, comparison.inputs[key.input].text
        )
        return replace(asked, model_requested=model_of(prepared))

    def history_of(self, entry: ComparisonInput) -> Sequence[Turn]:
        """What was said before an input. Raises NotFoundError if that is gone from the log."""
        if entry.follows:
            try:
                return self._comparisons.turns_up_to(entry.follows)
            except NotFoundError:
                raise NotFoundError(
                    "What was said before this input is no longer in the log, so it cannot be asked."
                ) from None
        return entry.history

    def find_upstream(self, name: str) -> tuple[str, MissingError | None]:
        """What an upstream is called, also if there is none of that name or it has no key, and which of these it is;
        ``None`` if neither.
        """
        try:
            return self._chat.upstream_name(name), None
        except (NotFoundError, UpstreamKeyError) as error:
            # That of nobody's choice has its name from the settings.
            return name or str(error.parameters.get("upstream", "")), error

    def upstream_of_variant(
        self, comparison: Comparison, number: int
    ) -> tuple[str, MissingError | None]:
        """The name of the upstream that answers a variant, and why it cannot be asked; ``None`` where it can."""
        variant = comparison.variants[number]
        persona = self.persona_of(variant.revision).persona
        return self.find_upstream(variant.upstream or self._usual_upstream(comparison, persona))

    def upstream_of_judge(self, comparison: Comparison) -> tuple[str, MissingError | None]:
        """The same of the judge; an empty name where there is none."""
        judge = comparison.judge
        if judge is None:
            return "", None
        persona = self.persona_of(judge.revision).persona
        return self.find_upstream(judge.upstream or self._usual_upstream(comparison, persona))

    def asked_judge(self, comparison: Comparison) -> AskedJudge | None:
        """The judge as it is asked; ``None`` where there is none."""
        judge = comparison.judge
        if judge is None:
            return None
        upstream, _ = self.upstream_of_judge(comparison)
        return AskedJudge(judge, self.persona_of(judge.revision), upstream)

    def _usual_upstream(self, comparison: Comparison, persona: Persona) -> str:
        """Who answers for a persona in a comparison unless told otherwise; empty: today's default.

        That is the default of the day on which it was recorded, as long as there is one of that name.
        """
        usual = persona.upstream or comparison.upstream
        is_gone = isinstance(self.find_upstream(usual)[1], NotFoundError)
        return "" if is_gone and not persona.upstream else usual

    def known_model(self, prepared: PreparedTurn) -> str:
        """The model that a prompt will be answered by, as far as it is known without asking anybody; else empty."""
        return prepared.model or self._chat.known_model(prepared.upstream)
