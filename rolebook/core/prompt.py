"""From a persona, values, a history and an input to the message list that is sent."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from rolebook.core.errors import Problem, PromptError, PromptLimitError
from rolebook.core.frozen import frozen
from rolebook.core.message import MAX_OUTPUT, Message, Origin, Span
from rolebook.core.persona import Fragment, Persona, Place, ResolvedPersona, VariableValue
from rolebook.core.sandbox import Sandbox
from rolebook.core.template_advice import ABOUT_MISSING_NAMES, MISSING_NAME

_ORIGINS = {origin.value: origin for origin in Origin}
#: So many outlines are kept, and none with more characters: of most personas, a few megabytes in all.
_MOST_OUTLINES = 256
_LONGEST_OUTLINE = 20_000


@frozen
class Prompt:
    """What a prompt template made. ``dropped_turns`` of the history are not in it.

    One that looked at no history ``has_history`` not: what was said before is then no part of it.
    """

    messages: tuple[Message, ...]
    dropped_turns: int = 0
    has_history: bool = True


def role_data(resolved: ResolvedPersona) -> dict[str, Any]:
    """What of a persona stays the same from turn to turn; a worker is told once."""
    persona = resolved.persona
    shown = persona.model_dump(mode="json", include={"name", "description", "tags", "language"})
    return {
        "templates": dict(resolved.templates),
        "template": persona.template_name,
        "is_plain": persona.endpoint == "completions",
        "system": persona.system,
        "greeting": persona.greeting,
        "examples": [(example.user, example.assistant) for example in persona.examples],
        "persona": {"id": persona.id, **shown},
    }


def build_request(
    resolved: ResolvedPersona, values: Mapping[str, VariableValue], input_text: str
) -> dict[str, Any]:
    """What a worker is asked for one prompt; it asks back for the role or the history if it needs them."""
    return {
        "persona": resolved.persona.id,
        "revision": resolved.revision.id,
        "values": values,
        "input": input_text,
    }


@frozen
class _Outline:
    """A prompt whose messages are the same for every input: each with whether the input goes into it, and ``None`` in
    the place of the history. ``size`` are its characters without the input, which it has ``gaps`` for.
    """

    messages: tuple[tuple[Message, bool] | None, ...]
    size: int
    gaps: int

    def filled(self, input_text: str, history: Sequence[Message]) -> tuple[Message, ...]:
        """The messages for one input."""
        messages: list[Message] = []
        for part in self.messages:
            if part is None:
                messages.extend(history)
            else:
                message, has_gap = part
                messages.append(_with_input(message, input_text) if has_gap else message)
        return tuple(messages)


def _outline_of(entries: Iterable[Any]) -> _Outline:
    """The outline of what a worker has rendered. The input at hand is no part of it."""
    messages: list[tuple[Message, bool] | None] = []
    size = gaps = 0
    for entry in entries:
        if entry is None:
            messages.append(None)
            continue
        message = _with_input(_message(*entry), "")
        here = sum(span.origin is Origin.INPUT for span in message.spans)
        messages.append((message, here > 0))
        size += len(message.content)
        gaps += here
    return _Outline(tuple(messages), size, gaps)


def _with_input(message: Message, input_text: str) -> Message:
    spans = tuple(
        [
            span._replace(text=input_text) if span.origin is Origin.INPUT else span
            for span in message.spans
        ]
    )
    return Message(message.role, "".join([span.text for span in spans]), spans)


class PromptRenderer:
    """Renders prompts in a sandbox. Safe for threads.

    Most templates only print the input. What they render to is kept as an outline, which other inputs are put into
    without the way to a worker: after the render of any input, nothing of the template is run for the next one.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        #: By persona, revision and variables, the one that was rendered first coming first.
        self._outlines: dict[tuple[str, ...], _Outline] = {}
        self._lock = threading.Lock()

    def render(
        self,
        resolved: ResolvedPersona,
        values: Mapping[str, VariableValue],
        history: Sequence[Message],
        input_text: str,
    ) -> Prompt:
        """The prompt for one input. Makes no call.

        Arguments:
            resolved: the persona with its templates.
            values: every variable of the persona, as Persona.parse_variables gives them.
            history: the earlier turns, oldest first, as they shall be sent.
            input_text: the newest input.

        Raises PromptError with file and line, PromptLimitError.
        """
        # As they are printed: 0 and -0 are equal.
        printed = [f"{name}={value!r}" for name, value in values.items()]
        key = (resolved.persona.id, resolved.revision.id, *printed)
        outline = self._outlines.get(key)
        if outline is None or outline.size + outline.gaps * len(input_text) > MAX_OUTPUT:
            reply = self._ask(build_request(resolved, values, input_text), resolved, history)
            if not reply["is_fixed"]:
                messages = _messages(reply["messages"], history)
                return Prompt(messages, has_history=reply["has_history"])
            outline = _outline_of(reply["messages"])
            self._keep(key, outline)
        has_history = None in outline.messages
        return Prompt(outline.filled(input_text, history), has_history=has_history)

    def _keep(self, key: tuple[str, ...], outline: _Outline) -> None:
        if outline.size > _LONGEST_OUTLINE:
            return
        with self._lock:
            if len(self._outlines) >= _MOST_OUTLINES:
                del self._outlines[next(iter(self._outlines))]
            self._outlines[key] = outline

    def greet(self, resolved: ResolvedPersona, values: Mapping[str, VariableValue]) -> str:
        """What the persona says first, rendered; empty if it waits. Raises as ``render``."""
        if not resolved.persona.greeting:
            return ""
        request = build_request(resolved, values, "") | {"is_greeting_only": True}
        ((role, spans),) = self._ask(request, resolved, ())["messages"]
        return _message(role, spans).content

    def _ask(
        self, request: Mapping[str, Any], resolved: ResolvedPersona, history: Sequence[Message]
    ) -> dict[str, Any]:
        def supply(part: str) -> Any:
            if part == "role":
                return role_data(resolved)
            return [(message.role, message.content) for message in history]

        if not self._sandbox.has_rendered(resolved.revision.id):
            # No worker knows the role yet, so that each would ask for it.
            request = {**request, "role": supply("role")}
        reply = self._sandbox.ask(request, supply)
        if "error" in reply:
            raise _prompt_error(reply, resolved)
        return reply

    def find_problems(self, tried: ResolvedPersona | Fragment) -> list[Problem]:
        """What trial renderings find wrong: with the variables filled in, and with each of their choices once.

        As one mistake ends a rendering, the texts and the template are then tried each alone as well.
        """
        if isinstance(tried, Fragment):
            errors = self._try_parts(tried)
            return _unique(_problem(error, tried.resolved) for error in errors)
        found = [
            problem for values in _trials(tried.persona) for problem in self._try(tried, values)
        ]
        if any(problem.severity == "error" for problem in found):
            parts = ("greeting", "system", tried.persona.template_name)
            errors = self._try_parts(Fragment(tried, parts, knows_names=True))
            # What takes too long is stopped anywhere: it would be told twice.
            of_parts = [error for error in errors if not isinstance(error, PromptLimitError)]
            found += [_problem(error, tried) for error in of_parts]
        return _unique(found)

    def _try(self, resolved: ResolvedPersona, values: Mapping[str, VariableValue]) -> list[Problem]:
        prompt = Prompt(())

        def render(values: Mapping[str, VariableValue]) -> None:
            nonlocal prompt
            prompt = self.render(resolved, values, history_messages([("…", "…")]), _TRIAL_INPUT)
            self.greet(resolved, values)

        found = [_problem(error, resolved) for error in _errors(render, values)]
        if found or any(_TRIAL_INPUT in message.content for message in prompt.messages):
            return found
        file = f"{resolved.templates_dir}{resolved.persona.template_name}.jinja"
        message = "What people write never reaches the model: the template does not use 'input'."
        return [Problem(file, 1, 1, message, severity="warning")]

    def _try_parts(self, fragment: Fragment) -> Iterator[PromptError]:
        resolved = fragment.resolved
        for part in fragment.parts:
            alone = {"part": part, "is_compiled_only": not fragment.knows_names}

            def render(values: Mapping[str, VariableValue], alone: dict[str, Any] = alone) -> None:
                self._ask(build_request(resolved, values, _TRIAL_INPUT) | alone, resolved, ())

            for values in _trials(resolved.persona):
                errors = _errors(render, values)
                yield from errors
                if any(isinstance(error, PromptLimitError) for error in errors):
                    break


def _errors(
    render: Callable[[Mapping[str, VariableValue]], None], values: Mapping[str, VariableValue]
) -> list[PromptError]:
    """What a rendering fails at: every missing name, or what else comes first."""
    found: list[PromptError] = []
    missing: set[str] = set()
    for _ in range(_MAX_MISSING):
        try:
            render(values)
            break
        except PromptError as error:
            is_about_name = error.message in ABOUT_MISSING_NAMES
            if error.parameters.get("near") in missing:
                error.message = MISSING_NAME
            if not found or is_about_name:
                found.append(error)
            name = str(error.parameters.get("name"))
            if not is_about_name or name in values:
                break
            # With something in its place, the next missing name is found as well.
            missing.add(name)
            values = {**values, name: "…"}
    return found


def _unique(problems: Iterable[Problem]) -> list[Problem]:
    """Each once: the same name at the same place may have been told with other advice."""
    found: dict[tuple[str, str], Problem] = {}
    for problem in problems:
        what = str(problem.parameters.get("name", problem.message))
        found.setdefault((problem.place, what), problem)
    return list(found.values())


def _problem(error: PromptError, resolved: ResolvedPersona) -> Problem:
    file, line = error.file, error.line
    if not file:
        # What takes too long is stopped anywhere; the text of the persona is where to look first.
        place = resolved.places.get("system")
        file, line = (place.file, place.line) if place else (resolved.persona.id, 0)
    return Problem(file, line, error.column or 1, error.message, error.parameters)


_TRIAL_INPUT = "‹trial›"
#: So many names that do not exist are looked for in one persona.
_MAX_MISSING = 20
#: A persona with very many choices is tried with this many combinations.
_MAX_TRIALS = 50


def _trials(persona: Persona) -> Iterator[dict[str, VariableValue]]:
    """Values to try a persona with: its defaults, and every other choice of each variable in turn."""
    usual = {
        name: variable.fallback or _STAND_INS.get(variable.type, "…")
        for name, variable in persona.variables.items()
    }
    yield usual
    others = (
        {**usual, name: value}
        for name, variable in persona.variables.items()
        for value in (*variable.choices, *_OTHERS.get(variable.type, ()))
        if value != usual[name] and not (variable.required and value == "")
    )
    yield from islice(others, _MAX_TRIALS)


_OTHERS: Mapping[str, tuple[VariableValue, ...]] = {
    "boolean": (True, False),
    "text": ("",),
    "long_text": ("",),
}
#: Values for variables without one, for a trial.
_STAND_INS: Mapping[str, VariableValue] = {
    "number": 1.0,
    "integer": 1,
    "boolean": False,
    "date": "2026-01-01",
}


def history_messages(turns: Sequence[tuple[str, str]]) -> tuple[Message, ...]:
    """Earlier turns, each an input and the answer it got, as messages."""
    messages: list[Message] = []
    for user, assistant in turns:
        messages.append(Message("user", user, (Span(user, Origin.HISTORY),)))
        messages.append(Message("assistant", assistant, (Span(assistant, Origin.HISTORY),)))
    return tuple(messages)


def placed(place: Place, line: int, column: int, reason: str) -> tuple[int, int]:
    """The line and column in the file of what stands at a line and column of a persona's text."""
    for number, written in enumerate(place.lines):
        for name in re.findall("'([^']+)'", reason):
            if name in written:
                return place.line + number, written.index(name) + 1
    if place.lines:
        return place.line, place.offset + 1
    column += (place.offset if line == 1 else place.indent) if column else 0
    return place.line + line - 1, column


def _messages(entries: Iterable[Any], history: Sequence[Message]) -> tuple[Message, ...]:
    messages: list[Message] = []
    for entry in entries:
        messages.extend(history if entry is None else [_message(*entry)])
    return tuple(messages)


def _message(role: Any, spans: Sequence[Sequence[str]]) -> Message:
    traced = tuple([Span(text, _ORIGINS[origin], name) for text, origin, name in spans])
    return Message(role, "".join([span.text for span in traced]), traced)


def _prompt_error(reply: Mapping[str, Any], resolved: ResolvedPersona) -> PromptError:
    kind = PromptLimitError if reply["is_limit"] else PromptError
    name, line, column = reply["file"], reply["line"], reply["column"]
    file = name
    if name in resolved.templates:
        file = f"{resolved.templates_dir}{name}.jinja"
    place = resolved.places.get(name)
    if place is not None:
        file = place.file
        line, column = placed(
            place, max(line, 1), column, str(reply["parameters"].get("reason", ""))
        )
    return kind(reply["error"], file=file, line=line, column=column, **reply["parameters"])
