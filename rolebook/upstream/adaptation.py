"""Requests as a model takes them: what it refuses is renamed or left out, told, and remembered.

Reasoning models, and servers that follow the API only so far, refuse sampling parameters that others need. What they
refuse is known best from their own answer, so every model is asked as the persona wishes, once.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping
from dataclasses import field, replace
from typing import Any

from rolebook.core.completion import CompletionRequest
from rolebook.core.errors import Phrase, UpstreamError
from rolebook.core.frozen import frozen

_REMEMBERED_S = 3600.0
_MOST_MODELS = 256

_OURS = ("model", "messages", "prompt", "stream")
"""Fields that a call sets itself."""

_USAGE = {"include_usage": True}

_HEADERS = {"organization": "OpenAI-Organization", "project": "OpenAI-Project"}

_KEPT = frozenset(
    {
        "n",
        "best_of",
        "echo",
        "suffix",
        "tools",
        "tool_choice",
        "functions",
        "function_call",
        "response_format",
        "max_tokens",
        "max_completion_tokens",
        "modalities",
        "audio",
        "prediction",
        "web_search_options",
        "stream_options",
        "include_usage",
    }
)
"""What an answer would not be the one asked for without: it is never left out, the refusal is shown instead."""

_USE_INSTEAD = re.compile(r"[Uu]se ['\"`]?(\w+)['\"`]? instead")
_QUOTED = re.compile(r"['\"`]([a-z_]+)(?:[.\[][^'\"`]*)?['\"`]")
_ROLE = re.compile(r"messages\[(\d{1,6})\]\.role")
_NOT_TAKEN = re.compile(
    r"unsupported|not support|unrecognized|unknown|unexpected|not permitted|not allowed|cannot find field",
    re.IGNORECASE,
)
_OF_VALUE = re.compile(
    r"(supported|valid|allowed|accepted|possible|permitted) (values|options)"
    r"|(must|should) be (one of|either)|expected one of",
    re.IGNORECASE,
)
"""Whoever lists values takes the parameter. That one is none of them, its sender has to know, and nobody else."""


@frozen
class Plan:
    """A request as it will be sent. ``adaptations`` say how it differs from what was asked for."""

    fields: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)
    is_streamed: bool = True
    system_role: str = "system"
    adaptations: tuple[Phrase, ...] = ()

    @property
    def sent(self) -> dict[str, Any]:
        """Its parameters, with those that travel as headers."""
        return {
            **self.fields,
            **{name: self.headers[head] for name, head in _HEADERS.items() if head in self.headers},
        }


@frozen
class _Habit:
    """What a model is known to refuse."""

    renamed: Mapping[str, str] = field(default_factory=dict)
    left_out: frozenset[str] = frozenset()
    is_streamed: bool = True
    tells_usage: bool = True
    system_role: str = "system"


class Adapter:
    """Remembers, for one upstream, what each of its models refuses, for an hour: servers change, and what one said of
    somebody's odd request may have been taken for more than was meant.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._habits: dict[tuple[str, str], tuple[_Habit, float]] = {}

    def plan(self, request: CompletionRequest) -> Plan:
        """The request as its model is known to take it."""
        habit = self._habit_of(request)
        fields: dict[str, Any] = {}
        headers: dict[str, str] = {}
        adaptations: list[Phrase] = []
        for name, value in request.parameters.items():
            if name in _HEADERS:
                headers[_HEADERS[name]] = str(value)
            elif name in _OURS:
                adaptations.append(
                    Phrase(
                        "%(name)s was left out, because every call sets it itself.", {"name": name}
                    )
                )
            elif name in habit.left_out:
                adaptations.append(
                    Phrase("%(name)s was left out, because the model refuses it.", {"name": name})
                )
            elif name in habit.renamed:
                fields[habit.renamed[name]] = value
                adaptations.append(
                    Phrase(
                        "%(name)s was sent as %(sent)s, because the model asks for it under that name.",
                        {"name": name, "sent": habit.renamed[name]},
                    )
                )
            else:
                fields[name] = value
        is_streamed = request.is_streamed and habit.is_streamed
        if request.is_streamed and not is_streamed:
            adaptations.append(
                Phrase(
                    "The answer was asked for in one piece, because the model refuses to stream it."
                )
            )
        if is_streamed and habit.tells_usage:
            fields["stream_options"] = {**_USAGE, **(fields.get("stream_options") or {})}
        elif not is_streamed:
            fields.pop("stream_options", None)
        if habit.system_role != "system" and any(
            message.role == "system" for message in request.messages
        ):
            adaptations.append(
                Phrase(
                    "The system message was sent as %(role)s message, because the model takes no other.",
                    {"role": habit.system_role},
                )
            )
        return Plan(fields, headers, is_streamed, habit.system_role, tuple(adaptations))

    def learn(self, request: CompletionRequest, plan: Plan, error: UpstreamError) -> bool:
        """Whether ``error`` teaches something that makes another try of ``request`` worthwhile."""
        if error.status not in (400, 422):
            return False
        lesson = _Lesson(request, plan, error)
        with self._lock:
            known = self._habit_of(request)
            habit = lesson.applied(known)
            if habit != known:
                self._remember(request, habit)
        return self.plan(request) != plan

    def _habit_of(self, request: CompletionRequest) -> _Habit:
        habit, learnt_at = self._habits.get((request.endpoint, request.model), (_Habit(), 0.0))
        return habit if _is_recent(learnt_at) else _Habit()

    def _remember(self, request: CompletionRequest, habit: _Habit) -> None:
        key = (request.endpoint, request.model)
        self._habits.pop(key, None)
        self._habits[key] = habit, time.monotonic()
        if len(self._habits) > _MOST_MODELS:
            del self._habits[next(iter(self._habits))]


def _is_recent(moment: float) -> bool:
    return time.monotonic() - moment < _REMEMBERED_S


class _Lesson:
    """What a refusal says about the parameters of a plan."""

    def __init__(self, request: CompletionRequest, plan: Plan, error: UpstreamError) -> None:
        self._messages = request.messages
        self._plan = plan
        self._said = error.detail
        self._refused = str(error.parameters.get("param") or "")
        self._param = self._refused.partition(".")[0].partition("[")[0]
        self._code = str(error.parameters.get("reason_code") or "")

    @property
    def _is_usage(self) -> bool:
        """Whether it is about the request to report usage, which we added, alone."""
        return self._plan.fields.get("stream_options") == _USAGE and (
            self._param == "stream_options" or self._name in {"stream_options", *_USAGE}
        )

    def applied(self, habit: _Habit) -> _Habit:
        """``habit`` and what this adds to it."""
        if self._is_usage:
            return replace(habit, tells_usage=False)
        if self._is_system_role:
            return replace(
                habit, system_role="developer" if habit.system_role == "system" else "user"
            )
        name = self._name
        instead = _USE_INSTEAD.search(self._said)
        if name and instead and instead[1] != name:
            return replace(habit, renamed={**habit.renamed, name: instead[1]})
        if name == "stream":
            return replace(habit, is_streamed=False)
        if name and name not in _KEPT:
            return replace(habit, left_out=habit.left_out | {name})
        return habit

    @property
    def _is_system_role(self) -> bool:
        # Whoever refuses another role, which a program may have sent, names among those that it takes this one, too.
        place = _ROLE.fullmatch(self._refused)
        roles = [message.role for message in self._messages]
        return (
            place is not None
            and roles[int(place[1]) :][:1] == ["system"]
            and self._plan.system_role in self._said
        )

    @property
    def _name(self) -> str:
        """The parameter that is refused as such, and not just for its value; empty if there is none."""
        if not (
            self._code.startswith(("unsupported_", "unknown_")) or _NOT_TAKEN.search(self._said)
        ):
            return ""
        if _OF_VALUE.search(self._said):
            return ""
        names = (*self._plan.fields, *_USAGE, *(("stream",) if self._plan.is_streamed else ()))
        # A server that says what is at fault is taken at its word: in the rest may be what somebody has sent.
        words = (*_QUOTED.findall(self._said), *re.findall(r"\w+", self._said))
        candidates = (self._param,) if self._param else words
        return next((name for name in candidates if name in names), "")
