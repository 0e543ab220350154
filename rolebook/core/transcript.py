"""What a program sends with every call: all that was said so far. Servers of this kind remember nothing.

A transcript is taken apart into whole turns, so that a persona's template and context policy find in it what they find
in a session; and it is recognised: whoever sends what was logged before, goes on with that session.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from rolebook.core.completion import Choice
from rolebook.core.errors import InputError
from rolebook.core.frozen import frozen
from rolebook.core.message import Message, MessageRole, Origin, Span
from rolebook.core.naming import require_spelling
from rolebook.core.persona import Persona

MAX_MESSAGES = 2000
_ROLES = ("system", "developer", "user", "assistant", "tool")
#: By another spelling of these a message would be another one to some servers than it is here.
_OWN_FIELDS = ("role", "content", "tool_calls", "tool_call_id")
#: What a program may tell a persona besides what people say. It belongs to no turn.
INSTRUCTING = frozenset({"system", "developer"})


@frozen
class Transcript:
    """The messages of a program, by their part in the turn that they ask for.

    ``earlier`` are the earlier turns, oldest first, each from what was said to it up to the last word before the next;
    ``input`` is the newest message of a user, and ``later`` what has come since: calls of tools and their results.
    """

    earlier: tuple[tuple[Message, ...], ...]
    input: Message
    later: tuple[Message, ...] = ()

    @property
    def is_first(self) -> bool:
        """Whether nothing in it was ever answered."""
        return not any(message.role == "assistant" for message in self._messages)

    @property
    def said(self) -> str:
        """What is new in it: the results of tools where they came last, otherwise the input."""
        results = [message.content for message in self._split()[1] if message.role == "tool"]
        return "\n".join(results) or self.input.content

    @property
    def _messages(self) -> tuple[Message, ...]:
        return (*(message for turn in self.earlier for message in turn), self.input, *self.later)

    def _split(self) -> tuple[Sequence[Message], Sequence[Message]]:
        """Up to the newest answer, and after it. An answer that the program has begun itself is not one yet."""
        messages = self._messages
        answers = [at for at, message in enumerate(messages[:-1]) if message.role == "assistant"]
        end = answers[-1] + 1 if answers else 0
        return messages[:end], messages[end:]

    def digest(self, scope: str) -> str:
        """What all up to the newest answer is recognised by; empty where nothing was answered.

        Arguments:
            scope: whatever else must be the same for a transcript to belong to a session.
        """
        known = self._split()[0]
        return _digest(scope, _essences(known)).hexdigest() if known else ""

    def digests_with(self, scope: str, choices: Sequence[Choice]) -> tuple[str, ...]:
        """What it will be recognised by with each of these answers at its end."""
        so_far = _digest(scope, _essences(self._messages))
        digests: list[str] = []
        for choice in choices:
            whole = so_far.copy()
            _feed(whole, _essence("assistant", choice.text, choice.tool_calls))
            digests.append(whole.hexdigest())
        return tuple(digests)


def _essences(messages: Sequence[Message]) -> Iterator[list[Any]]:
    """What of messages is still the same when they come back: programs trim texts, and renew their instructions."""
    for message in messages:
        if message.role not in INSTRUCTING:
            essence = _essence(message.role, message.content, message.fields.get("tool_calls"))
            # Of answers the texts and calls are known; what else a program makes of them does not count.
            yield essence if message.role == "assistant" else [*essence, *message.other_parts]


def _essence(role: str, text: str, calls: Sequence[Mapping[str, Any]] | None) -> list[Any]:
    return [role, text.strip(), *([call.get("id"), call.get("function")] for call in calls or ())]


def _digest(scope: str, essences: Iterator[list[Any]]) -> Any:
    digest = hashlib.blake2b(scope.encode("utf-8", "surrogatepass"), digest_size=16)
    for essence in essences:
        _feed(digest, essence)
    return digest


def _feed(digest: Any, essence: list[Any]) -> None:
    digest.update(json.dumps(essence, sort_keys=True).encode() + b"\n")


def parse_transcript(messages: Any) -> Transcript:
    """A transcript from the ``messages`` of a request. Raises InputError with the place of what is wrong."""
    if not isinstance(messages, list) or not messages:
        raise InputError("%(key)s must be a list of messages, and not empty.", key="messages")
    if len(messages) > MAX_MESSAGES:
        raise InputError(
            "%(key)s has %(count)d entries, and %(limit)d are the most.",
            key="messages",
            count=len(messages),
            limit=MAX_MESSAGES,
        )
    parsed = [_parse_message(message, number) for number, message in enumerate(messages)]
    newest = max((n for n, message in enumerate(parsed) if message.role == "user"), default=None)
    if newest is None:
        raise InputError(
            "%(key)s has no message of a user, so there is nothing that the persona could answer.",
            key="messages",
        )
    return Transcript(
        earlier=tuple(whole_turns(parsed[:newest])),
        input=parsed[newest],
        later=tuple(parsed[newest + 1 :]),
    )


def whole_turns(messages: Sequence[Message]) -> Iterator[tuple[Message, ...]]:
    """Each from what a user says, and the first from whatever comes before that."""
    turn: list[Message] = []
    for message in messages:
        if message.role == "user" and any(said.role not in INSTRUCTING for said in turn):
            yield tuple(turn)
            turn = []
        turn.append(message)
    if turn:
        yield tuple(turn)


def _parse_message(given: Any, number: int) -> Message:
    key = f"messages[{number}]"
    if not isinstance(given, Mapping):
        raise InputError("%(key)s must be an object with a role and a content.", key=key)
    require_spelling(given, _OWN_FIELDS, within=key)
    role = given.get("role")
    if role not in _ROLES:
        raise InputError(
            "%(key)s must be one of %(choices)s, got '%(got)s'.",
            key=f"{key}.role",
            choices=", ".join(_ROLES),
            got=str(role)[:40],
        )
    fields = {name: value for name, value in given.items() if name not in ("role", "content")}
    calls = fields.get("tool_calls")
    if calls is not None and not _is_list_of_objects(calls):
        raise InputError("%(key)s must be a list of objects.", key=f"{key}.tool_calls")
    text, content = _parse_content(given.get("content"), f"{key}.content")
    if content is not None:
        fields["content"] = content
    elif given.get("content") is None:
        if not (role == "assistant" and fields):
            raise InputError("%(key)s must be a text or a list of parts.", key=f"{key}.content")
        fields["content"] = None
    return Message(cast(MessageRole, role), text, (Span(text, Origin.HISTORY),), fields)


def _parse_content(content: Any, key: str) -> tuple[str, list[Any] | None]:
    """The text of a content, and the content itself where it is more than a text."""
    if content is None or isinstance(content, str):
        return content or "", None
    if not _is_list_of_objects(content):
        raise InputError("%(key)s must be a text or a list of parts.", key=key)
    for number, part in enumerate(content):
        # It would be left out without a word.
        if part.get("type") == "text" and not isinstance(part.get("text"), str):
            raise InputError("%(key)s must be a text.", key=f"{key}[{number}].text")
    texts = [part["text"] for part in content if part.get("type") == "text"]
    is_plain = all(set(part) == {"type", "text"} for part in content) and len(texts) == len(content)
    return "\n".join(texts), None if is_plain else list(content)


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, Mapping) for item in value)


def with_instructions(
    messages: Sequence[Message], earlier: Sequence[tuple[Message, ...]], persona: Persona
) -> Sequence[Message]:
    """The messages with what a program tells the persona, where the template has no place for what came before: right
    before the input, as in a history.
    """
    told = [said for turn in earlier for said in turn if said.role in INSTRUCTING]
    if not told:
        return messages
    if persona.endpoint == "completions":
        raise InputError(
            "The plain prompt of %(persona)s has no history in it, and so no place for messages of a system or"
            " a developer. Leave them out.",
            key="messages",
            persona=persona.name,
        )
    at = place_of_input(messages)
    at = len(messages) if at is None else at
    return [*messages[:at], *told, *messages[at:]]


def place_of_input(messages: Sequence[Message]) -> int | None:
    """Which message has the input in it, if it is one of a user."""
    for at in range(len(messages) - 1, -1, -1):
        message = messages[at]
        if message.role == "user" and any(span.origin == Origin.INPUT for span in message.spans):
            return at
    return None
