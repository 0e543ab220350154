"""Which behaviour a request gets: by its key, by its path, by its model, in this order."""

import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from typing import Literal

from tests.fake_upstream.behaviour import Behaviour, parse_plan
from tests.fake_upstream.record import Request
from tests.fake_upstream.refusal import unknown_model

MODELS: Mapping[str, str] = {
    "ok": "ok",
    "gpt-4o": "ok",
    "gpt-4o-mini": "ok",
    "gpt-3.5-turbo-instruct": "ok",
    "deepseek-chat": "ok",
    "qwen-max": "ok",
    "gpt-5-mini": "reasoning-model",
    "o3-mini": "reasoning-model",
}
"""The models that are listed, and how each behaves; every behaviour is a model too, unlisted."""

Scope = Literal["key", "path", "model"]
Turn = tuple[Scope, str, str | None]
"""Where a sequence stands: its rule, or its model name, and the key that asked."""

OK = parse_plan("ok")[0]


class Rules:
    """Rules, and how far each sequence has come with each key. Used by many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Back to the models alone, and every sequence to its beginning."""
        with self._lock:
            self._plans: dict[tuple[Scope, str], tuple[Behaviour, ...]] = {
                ("model", name): parse_plan(plan) for name, plan in MODELS.items()
            }
            self._turns: Counter[Turn] = Counter()
            self._recent: dict[Turn, deque[float]] = {}

    def set(self, scope: Scope, name: str, behaviour: str | None) -> None:
        """Set or, with None, remove a rule; its sequence begins anew. Raises ValueError."""
        plan = None if behaviour is None else parse_plan(behaviour)
        with self._lock:
            for begun in [turn for turn in self._turns if turn[:2] == (scope, name)]:
                del self._turns[begun]
            if plan is None:
                self._plans.pop((scope, name), None)
            else:
                self._plans[scope, name] = plan

    @property
    def models(self) -> list[str]:
        """The names of the models that are listed, in the order in which they came."""
        with self._lock:
            return [name for scope, name in self._plans if scope == "model"]

    def choose(self, request: Request) -> Behaviour:
        """What this request gets, and a step forward in the sequence. Raises Refusal: no such model."""
        key, model = request.api_key, request.model
        rules: tuple[tuple[Scope, str | None], ...] = (("key", key), ("path", request.path))
        for scope, name in rules:
            plan = self._plans.get((scope, name)) if name else None
            if name and plan and (chosen := self._next((scope, name, key), plan)):
                return chosen
        if model is None:
            return OK
        plan = self._plans.get(("model", model)) or plan_of_model(model)
        return self._next(("model", model, key), plan) or OK

    def _next(self, turn: Turn, plan: tuple[Behaviour, ...]) -> Behaviour | None:
        """The next behaviour of `plan`, the last one for ever; None where it has no say."""
        with self._lock:
            chosen = plan[min(self._turns[turn], len(plan) - 1)]
            self._turns[turn] += 1
            is_free = chosen.fault.name == "limited" and self._has_room(turn, chosen)
        return None if is_free or chosen.fault.name == "pass" else chosen

    def _has_room(self, turn: Turn, limited: Behaviour) -> bool:
        limit = {**limited.fault.options, **limited.given}
        now, recent = time.monotonic(), self._recent.setdefault(turn, deque())
        while recent and recent[0] <= now - limit["per_s"]:
            recent.popleft()
        if len(recent) >= limit["requests"]:
            return False
        recent.append(now)
        return True


def plan_of_model(model: str) -> tuple[Behaviour, ...]:
    """The behaviours that a model name asks for. Raises Refusal: no such model."""
    try:
        return parse_plan(model)
    except ValueError as error:
        raise unknown_model(model, f" ({error})") from None
