"""The only place where concrete parts meet: settings, library, log, upstreams and the chat between them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rolebook.config import REHEARSAL, SETTINGS, Settings, load_settings
from rolebook.core.access import EVERYTHING, Right, caller, may, payer
from rolebook.core.budget import UNKNOWN_TOKENS, Reserve
from rolebook.core.cells import Cells
from rolebook.core.chat import ChatService
from rolebook.core.compare import CompareService
from rolebook.core.completion import Usage
from rolebook.core.errors import (
    NotFoundError,
    Phrase,
    Problem,
    RightError,
    RolebookError,
    SettingError,
    UpstreamKeyError,
)
from rolebook.core.estimate import Estimator
from rolebook.core.fixed import answers_of
from rolebook.core.gateway import GatewayService
from rolebook.core.judge import Judging
from rolebook.core.live_checks import LiveChecks
from rolebook.core.message import Message
from rolebook.core.persona import Fragment, ResolvedPersona
from rolebook.core.planning import Planner
from rolebook.core.prompt import PromptRenderer
from rolebook.core.recording import Recorder
from rolebook.core.reference import PersonaFinder
from rolebook.core.sandbox import Sandbox
from rolebook.core.session import Turn
from rolebook.core.shared import SharedCounts, SharedPlaces, SharedRates, SharedSpending
from rolebook.core.upstream import Upstream
from rolebook.library.file_library import FileLibrary, PersonaEntry, set_of
from rolebook.library.folder import shown
from rolebook.library.persona_file import describe_revision
from rolebook.library.yaml_text import EVERY_KEY, parse_yaml
from rolebook.storage.accounts import SqliteAccounts
from rolebook.storage.comparison_log import SqliteComparisonLog
from rolebook.storage.history_log import SqliteHistory
from rolebook.storage.log import SqliteLog
from rolebook.upstream.breaker import Silence
from rolebook.upstream.key_pool import KeyHealth, KeyPool
from rolebook.upstream.openai_upstream import OpenAIUpstream
from rolebook.upstream.prices import PriceTable
from rolebook.upstream.standing_in import StandingIn
from rolebook.upstream.tokens import count_messages, estimate_messages, estimate_request

if TYPE_CHECKING:
    from rolebook.core.edit import EditService

#: How long the cells of a comparison may take to record that they were stopped.
_STOP_S = 3.0


class UpstreamPool:
    """The configured upstreams by name, each made when it is first asked for. Safe for threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._made: dict[str, OpenAIUpstream] = {}
        self._places: SharedPlaces | None = None

    @property
    def names(self) -> Sequence[str]:
        """All of them, the default first."""
        default = self._settings.upstream
        others = [name for name in (*self._settings.upstreams, REHEARSAL) if name != default]
        return [default, *others]

    def get(self, name: str) -> Upstream:
        """By name; an empty name is the default; with those that stand in for it.

        Raises NotFoundError, UpstreamKeyError.
        """
        upstream = self._alone(name)
        return StandingIn(upstream, self._alone) if upstream.settings.fallbacks else upstream

    def _alone(self, name: str) -> OpenAIUpstream:
        """By name, without those that stand in for it. Raises NotFoundError, UpstreamKeyError."""
        name = name or self._settings.upstream
        if name in self._settings.missing_keys:
            raise UpstreamKeyError(
                "The upstream '%(upstream)s' needs a key, and %(key)s holds none."
                " Set it in the environment or in .env, then start again.",
                upstream=name,
                key=self._settings.missing_keys[name],
            )
        with self._lock:
            if name not in self._made:
                self._made[name] = made = self._make(name)
                if self._places is not None:
                    made.keys.share(self._places)
            return self._made[name]

    def share(self, places: SharedPlaces) -> None:
        """Let the calls of other processes count too where it is limited how many may run at once."""
        self._places = places

    def known_model(self, name: str) -> str:
        """The default model of an upstream, as far as it is known without asking it; else empty."""
        name = name or self._settings.upstream
        with self._lock:
            made = self._made.get(name)
        if made is not None:
            return made.known_model
        if name == REHEARSAL:
            from rolebook.upstream.rehearsal import REHEARSAL_MODEL

            return REHEARSAL_MODEL
        if name == self._settings.upstream and self._settings.model:
            return self._settings.model
        configured = self._settings.upstreams.get(name)
        return configured.model if configured else ""

    def keys_of(self, name: str) -> Sequence[KeyHealth]:
        """The keys of an upstream and how each of them is; none where none are set."""
        with self._lock:
            made = self._made.get(name)
        if made is not None:
            return made.keys.health()
        configured = self._settings.upstreams.get(name)
        return KeyPool(configured).health() if configured else ()

    def waiting_calls(self, name: str) -> int:
        """How many calls wait here for room at an upstream."""
        with self._lock:
            made = self._made.get(name)
        return made.keys.waiting if made is not None else 0

    def try_key_again(self, name: str, position: int) -> None:
        """Let a key rest no longer. Raises NotFoundError."""
        if name in self._settings.missing_keys or not self._alone(name).keys.try_again(position):
            raise NotFoundError("The upstream has no such key. Reload the page.")

    def silences_of(self, name: str) -> Sequence[Silence]:
        """The models of an upstream that get no answer at the moment."""
        with self._lock:
            made = self._made.get(name)
        return made.breaker.silences() if made is not None else ()

    def ask_again(self, name: str, model: str) -> None:
        """Let the next call ask an upstream that is left alone. Raises NotFoundError if it is not."""
        with self._lock:
            made = self._made.get(name)
        if made is None or not made.breaker.try_again(model):
            raise NotFoundError("The upstream is not left alone any more. Reload the page.")

    def _make(self, name: str) -> OpenAIUpstream:
        if name == REHEARSAL:
            from rolebook.upstream.rehearsal import rehearsal_upstream

            return rehearsal_upstream()
        settings = self._settings.upstreams.get(name)
        if settings is None:
            # Which servers are called here is nothing to tell every program that may call.
            if not may(caller(), Right.WATCH):
                raise NotFoundError("There is no upstream '%(name)s' here.", name=name[:80])
            raise NotFoundError(
                "There is no upstream '%(name)s'. Configured: %(known)s.",
                name=name[:80],
                known=", ".join(self.names),
            )
        if name == self._settings.upstream and self._settings.model:
            settings = replace(settings, model=self._settings.model)
        return OpenAIUpstream(settings)

    def close(self) -> None:
        """Drop all connections."""
        with self._lock:
            made, self._made = list(self._made.values()), {}
        for upstream in made:
            upstream.close()

    def close_idle(self) -> None:
        """Drop the connections that no call has wanted for long. It waits for nothing."""
        for upstream in list(self._made.values()):
            upstream.close_idle()


class _Billing:
    """Costs by the user's price table, the upstream's own figure and the known prices, in this order; and budgets."""

    def __init__(
        self, settings: Settings, accounts: SqliteAccounts, upstreams: UpstreamPool
    ) -> None:
        self._settings = settings
        self._accounts = accounts
        self._upstreams = upstreams
        self._table = PriceTable(settings.prices)
        self.require_budget = accounts.require_budget

    def reserve(self, turn: Turn) -> Reserve | None:
        key = payer().key
        if key is None or not key.limits.has_budget:
            return None
        prompt = estimate_request(turn.messages, turn.parameters_requested)
        completion = UNKNOWN_TOKENS * answers_of(turn.parameters_requested)
        cost = self._expected_cost(turn, prompt, completion) if key.limits.has_cost else 0.0
        return self._accounts.reserve(key, tokens=prompt + completion, cost=cost)

    def _expected_cost(self, turn: Turn, prompt_tokens: int, completion_tokens: int) -> float:
        usage = Usage(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens)
        model = turn.model_requested or self._upstreams.get(turn.upstream).default_model
        cost = self.cost(
            usage, upstream=turn.upstream, requested=model, answered=model, reported=None
        )
        if cost is None:
            raise RightError(
                "What %(model)s costs is not known, and this API key has a budget in US dollars. Ask for a model with a"
                " price; an administrator can give it one under prices in rolebook.yaml.",
                model=model,
            )
        return cost

    def cost(
        self,
        usage: Usage,
        *,
        upstream: str,
        requested: str,
        answered: str,
        reported: float | None,
    ) -> float | None:
        configured = self._settings.upstreams.get(upstream)
        base_url = configured.base_url if configured else ""
        return self._table.cost(
            usage, model=answered, base_url=base_url, requested=requested, reported=reported
        )


class Rolebook:
    """Everything that pages and commands work with. Nothing is opened or started until it is used.

    Arguments:
        sandbox: where prompts are rendered, if that has been started already; it is closed with all else.
    """

    def __init__(self, settings: Settings, sandbox: Sandbox | None = None) -> None:
        self.settings = settings
        self.library = FileLibrary(settings.personas, settings.templates)
        self.log = SqliteLog(settings.database)
        self.comparisons = SqliteComparisonLog(self.log)
        self.history = SqliteHistory(self.log)
        self.finder = PersonaFinder(self.library, self.history)
        self.accounts = SqliteAccounts(self.log)
        self.upstreams = UpstreamPool(settings)
        self.sandbox = sandbox or Sandbox()
        self.renderer = PromptRenderer(self.sandbox)
        self._opening = threading.Lock()
        self._edits: EditService | None = None
        self._trials: dict[str, tuple[ResolvedPersona | Fragment, Sequence[Problem]]] = {}
        prices = _Billing(settings, self.accounts, self.upstreams)
        self.chat = ChatService(
            library=self.finder,
            log=self.log,
            renderer=self.renderer,
            upstreams=self.upstreams,
            count_tokens=count_messages,
            prices=prices,
            on_end=lambda *ended: self.live_checks.take(*ended),
        )
        self.gateway = GatewayService(
            chat=self.chat, log=self.log, on_end=lambda *ended: self.live_checks.take(*ended)
        )
        self.recorder = Recorder(self.library, self.history)
        self.judging = Judging(chat=self.chat, log=self.log)
        self.live_checks = LiveChecks(
            judging=self.judging,
            chat=self.chat,
            library=self.finder,
            log=self.log,
            results=self.comparisons,
            judge_id=settings.judge,
        )
        self.cells = Cells(log=self.log, comparisons=self.comparisons, chat=self.chat)
        self.estimator = Estimator(
            cells=self.cells,
            comparisons=self.comparisons,
            chat=self.chat,
            count_tokens=estimate_messages,
            prices=prices,
        )
        self.compare = CompareService(
            planner=Planner(
                library=self.finder,
                log=self.log,
                comparisons=self.comparisons,
                upstreams=self.upstreams,
                chat=self.chat,
                judge_id=settings.judge,
            ),
            cells=self.cells,
            log=self.log,
            comparisons=self.comparisons,
            chat=self.chat,
            judging=self.judging,
        )

    @property
    def edits(self) -> EditService:
        """How files are changed. Most commands change none, and need not load what it takes."""
        from rolebook.core.edit import EditService
        from rolebook.library.source_files import SourceFiles

        with self._opening:
            if self._edits is None:
                self._edits = EditService(
                    library=self.library,
                    files=SourceFiles(self.library),
                    trials=self.renderer,
                    history=self.history,
                    recorder=self.recorder,
                    sessions=self.chat,
                    describe=describe_revision,
                )
            return self._edits

    def find_persona(self, reference: str) -> ResolvedPersona:
        """By ``teacher``, as it is now, or by ``teacher@production`` or ``teacher@3f9c``, as it was.

        Raises NotFoundError that names what there is, FileError, InputError, StorageError.
        """
        return self.finder.get_persona(reference)

    def unknown_personas(self, scope: Sequence[str]) -> Sequence[str]:
        """What of a key's scope means no persona that there is by now, as far as that can be told."""
        return [name for name in scope if name != EVERYTHING and not self._is_known(name)]

    def _is_known(self, reference: str) -> bool:
        try:
            self.find_persona(reference)
        except NotFoundError:
            return False
        except RolebookError:
            # It is there and cannot be used as it is, or nobody knows at the moment.
            return True
        return True

    def count_tokens(self, messages: Sequence[Message], model: str) -> int:
        """The tokens of a message list, as an estimate."""
        return count_messages(messages, model)

    def find_problems(self, entries: Sequence[PersonaEntry] | None = None) -> Iterator[Problem]:
        """All that is wrong or doubtful in the library, found by reading and by a trial rendering of each persona.

        Arguments:
            entries: look only at these.
        """
        found: list[Problem] = [] if entries is not None else list(self.library.problems())
        for entry in self.library.entries() if entries is None else entries:
            found += entry.problems
            if entry.to_try is not None:
                found += self._try_out(entry.id, entry.to_try)
        yield from sorted(set_of(found), key=lambda p: (p.file, p.line, p.column))

    def _try_out(self, persona_id: str, tried: ResolvedPersona | Fragment) -> Sequence[Problem]:
        """What a trial rendering finds; once for each version, as a thousand take seconds and a costly one two."""
        known = self._trials.get(persona_id)
        if known is None or known[0] is not tried:
            known = tried, tuple(self.renderer.find_problems(tried))
            self._trials[persona_id] = known
        return known[1]

    def share(self) -> None:
        """Count together with the processes that are forked from this one what is limited. To be called before they
        are, and before anything else.
        """
        self.accounts.share(SharedRates())
        self.upstreams.share(SharedPlaces())
        self.log.share(SharedCounts(), SharedSpending())
        self.chat.has_company = True

    def tidy(self) -> None:
        """Let go of what nobody has needed for long. Returns at once."""
        self.upstreams.close_idle()

    def stop(self) -> None:
        """Stop what runs, because the process ends. Returns at once."""
        self.recorder.stop()
        self.compare.stop_all()
        self.live_checks.stop()
        self.chat.cancel_all()

    def close(self) -> None:
        """Stop what runs, write what is unwritten, drop connections. It may be used again."""
        self.stop()
        self.recorder.close()
        self.compare.wait_all(_STOP_S)
        # It takes as long as closing the log until they have ended.
        self.sandbox.dismiss()
        self.log.close()
        self.upstreams.close()
        self.sandbox.close()


def open_rolebook(
    *,
    environment: Mapping[str, str],
    flags: Mapping[str, str] | None = None,
    sandbox: Sandbox | None = None,
) -> Rolebook:
    """Rolebook with the settings of flags, environment, ``.env`` and ``rolebook.yaml``; ``sandbox`` as there.

    Raises SettingError, FileError.
    """
    return Rolebook(read_settings(environment=environment, flags=flags), sandbox)


def read_settings(
    *, environment: Mapping[str, str], flags: Mapping[str, str] | None = None
) -> Settings:
    """The settings of flags, environment, ``.env`` and ``rolebook.yaml``. Raises SettingError, FileError."""
    from_file = {name: value for name, value in _dotenv().items() if value is not None}
    merged = {**from_file, **environment}
    chosen = dict(flags or {})
    setting = next(setting for setting in SETTINGS if setting.name == "config")
    named = chosen.get("config") or merged.get(setting.variable)
    path = Path(named or setting.default)
    if not path.exists():
        if named:
            raise SettingError("There is no settings file %(path)s.", path=named)
        return load_settings(flags=chosen, environment=merged, file={}, locate=lambda _: str(path))
    return _settings_with_file(path, chosen, merged)


def _dotenv() -> Mapping[str, str | None]:
    path = Path(".env")
    if not path.exists():
        return {}
    from dotenv import dotenv_values

    try:
        return dotenv_values(path, interpolate=False)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or Phrase("it is not UTF-8")
        raise SettingError("The file .env cannot be read: %(reason)s.", reason=reason) from None


def _settings_with_file(
    path: Path, flags: Mapping[str, str], environment: Mapping[str, str]
) -> Settings:
    try:
        source = path.read_bytes()
    except OSError as error:
        raise SettingError(
            "%(path)s cannot be read: %(reason)s.", path=shown(path), reason=error.strerror
        ) from None
    document = parse_yaml(source, file=shown(path), typed=EVERY_KEY)

    def locate(place: Sequence[str | int]) -> str:
        for end in range(len(place), 0, -1):
            mark = document.marks.get(tuple(place[:end]))
            if mark is not None:
                return f"{mark.file}:{mark.line}:{mark.column}"
        return shown(path)

    data: Any = document.data
    return load_settings(flags=flags, environment=environment, file=data, locate=locate)
