"""What a persona would send, ready to be shown: where each piece comes from, how long it is, what goes with it."""

from __future__ import annotations

from collections.abc import Mapping

from rolebook.core.chat import PreparedTurn
from rolebook.core.errors import InputError, RolebookError
from rolebook.core.frozen import frozen
from rolebook.core.message import Message, Origin, Span
from rolebook.core.persona import ResolvedPersona
from rolebook.upstream.tokens import is_exact
from rolebook.web.current import language, rolebook
from rolebook.web.submission import Start, start_of

#: Origins of which a message can consist; the others only occur inside them.
_GROUNDS = (Origin.SYSTEM, Origin.EXAMPLE, Origin.GREETING, Origin.HISTORY, Origin.INPUT)


@frozen
class ShownMessage:
    """A message with its ``ground``, the origin of all that is not marked in it; ``None`` if it has none."""

    message: Message
    ground: Origin | None

    @property
    def is_named(self) -> bool:
        """Whether the ground is worth telling: that a system text is the persona's goes without saying."""
        return self.ground not in {None, Origin.SYSTEM}

    def is_marked(self, span: Span) -> bool:
        """Whether a piece is shown to come from elsewhere than the rest; blank ones are not."""
        return span.origin != self.ground and bool(span.text.strip())


def show_message(message: Message) -> ShownMessage:
    """A message with the origin that stands out least: the persona's, else the only one that it consists of."""
    found = [origin for origin in _GROUNDS if any(span.origin == origin for span in message.spans)]
    is_clear = len(found) == 1 or Origin.SYSTEM in found
    return ShownMessage(message, found[0] if is_clear and found else None)


@frozen
class Preview:
    """What would be sent, or why nothing can be.

    ``tokens`` are counted here, exactly or as an estimate. ``model`` is empty where only the upstream knows it.
    """

    prepared: PreparedTurn | None = None
    greeting: str = ""
    tokens: int = 0
    is_exact: bool = False
    upstream: str = ""
    model: str = ""
    language: str = ""
    error: RolebookError | None = None

    @property
    def messages(self) -> list[ShownMessage]:
        return (
            [show_message(message) for message in self.prepared.messages] if self.prepared else []
        )

    @property
    def marks(self) -> list[Origin]:
        """The origins that are marked inside messages, for the legend."""
        found = {
            span.origin
            for shown in self.messages
            for span in shown.message.spans
            if shown.is_marked(span)
        }
        return [origin for origin in Origin if origin in found]


def preview(resolved: ResolvedPersona, fields: Mapping[str, str]) -> Preview:
    """What the fields of a persona's form would send. Calls nobody and writes nothing."""
    try:
        return _prepare(resolved, start_of({**fields, "persona": resolved.persona.id}))
    except InputError as error:
        return Preview(error=error)


def _prepare(resolved: ResolvedPersona, start: Start) -> Preview:
    chat = rolebook().chat
    prepared = chat.prepare(start.session, resolved, start.input)
    return show_prepared(prepared, greeting=chat.greeting_of(start.session, resolved))


def show_prepared(prepared: PreparedTurn, *, greeting: str = "") -> Preview:
    """A turn that is ready to be sent, as it is shown."""
    book = rolebook()
    upstream = prepared.upstream or book.settings.upstream
    model = prepared.model or book.upstreams.known_model(upstream)
    return Preview(
        prepared=prepared,
        greeting=greeting,
        tokens=book.count_tokens(prepared.messages, model),
        is_exact=is_exact(model),
        upstream=upstream,
        model=model,
        language=prepared.resolved.persona.language or language(),
    )
