"""What a program asks of the gateway, read from its request and checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from flask import current_app

from rolebook.core.access import require_persona
from rolebook.core.completion import Endpoint
from rolebook.core.errors import InputError, NotFoundError
from rolebook.core.fixed import plain, require_counts, require_no_framing
from rolebook.core.frozen import frozen
from rolebook.core.gateway import TranscriptRequest
from rolebook.core.naming import is_persona_id, require_fields, require_short, require_spelling
from rolebook.core.persona import BILLING_FIELDS, RESERVED_FIELDS, ResolvedPersona
from rolebook.core.reference import split_reference
from rolebook.core.session import Session, new_id
from rolebook.core.transcript import Transcript, parse_transcript
from rolebook.web.current import rolebook, this_request
from rolebook.web.errors import RequestError
from rolebook.web.submission import sent_json

#: The request field with what only Rolebook knows, and what may be in it.
OWN_FIELD = "rolebook"
_OWN_NAMES = ("variables", "session", "upstream")
#: The same for programs that cannot send further fields.
SESSION_HEADER, VARIABLES_HEADER = "X-Rolebook-Session", "X-Rolebook-Variables"
_READ_HERE = frozenset({"model", "messages", "prompt", "stream", "stream_options", OWN_FIELD})
#: Fields that say how many answers there are to be.
_COUNTS = frozenset({"n", "best_of"})
#: Fields that would carry a secret or another address, and those that travel as headers of ours.
_REFUSED = {plain(name) for name in (RESERVED_FIELDS - _READ_HERE) | BILLING_FIELDS}


class UnknownModelError(NotFoundError):
    """No persona goes by what was given as model; by the code that programs know from the OpenAI API."""

    code: ClassVar[str] = "model_not_found"


@frozen
class Asked:
    """A request to the gateway. ``model`` is what the program calls the persona, and is answered under."""

    model: str
    turn: TranscriptRequest
    wants_usage: bool


def read_request(endpoint: Endpoint) -> Asked:
    """The request at hand. Raises RequestError, InputError, NotFoundError, FileError."""
    body = _read_body()
    name = body.get("model")
    if not isinstance(name, str) or not name:
        raise InputError("%(key)s must name a persona.", key="model")
    resolved, model = find_model(name)
    own = _own_fields(body)
    is_streamed = _flag(body, "stream")
    options = body.get("stream_options") or {}
    if not isinstance(options, Mapping):
        raise InputError("%(key)s must be an object.", key="stream_options")
    session = Session(
        id=new_id(),
        persona_id=resolved.persona.id,
        pin=split_reference(name.partition("/")[0])[1],
        revision="",
        variables=own["variables"],
        upstream=own["upstream"],
        model=model,
    )
    turn = TranscriptRequest(
        session=session,
        resolved=resolved,
        transcript=_transcript(body, endpoint),
        session_id=own["session"],
        parameters=_parameters(body, options),
        is_streamed=is_streamed,
    )
    return Asked(name, turn, wants_usage=is_streamed and bool(options.get("include_usage")))


def find_model(name: str) -> tuple[ResolvedPersona, str]:
    """The persona behind a name, and the model that shall answer; empty: the persona's own.

    Arguments:
        name: ``teacher``, ``teacher@production`` (a label), ``teacher@3f9c`` (how a revision begins), and behind each
            of them ``/MODEL``, if another one is to answer.

    Raises UnknownModelError, FileError, InputError, StorageError.
    """
    require_short("model", name)
    reference, _, model = name.partition("/")
    persona_id, pin = split_reference(reference)
    try:
        if is_persona_id(persona_id) and not reference.endswith("@"):
            require_persona(persona_id, pin)
            return rolebook().find_persona(reference), model
    except NotFoundError as error:
        if pin:
            raise UnknownModelError(error.message, **error.parameters, key="model") from None
    raise UnknownModelError(
        "There is no persona '%(id)s'. GET /v1/models lists them.", key="model", id=reference[:80]
    )


def _read_body() -> Mapping[str, Any]:
    body = sent_json()
    if not isinstance(body, dict):
        raise RequestError("The request must be a JSON object.", status=400)
    return body


def _transcript(body: Mapping[str, Any], endpoint: Endpoint) -> Transcript:
    if endpoint == "chat":
        return parse_transcript(body.get("messages"))
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise InputError("%(key)s must be one text.", key="prompt")
    return parse_transcript([{"role": "user", "content": prompt}])


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise InputError("%(key)s must be true or false.", key=name)
    return bool(value)


def _parameters(body: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """All other fields, as they are: what a model does not take, its server says."""
    require_fields(body)
    refused = next((name for name in body if plain(name) in _REFUSED), None)
    if refused is not None:
        raise InputError("%(key)s cannot be set by a request.", key=refused[:80])
    require_no_framing(body)
    require_spelling(body, _READ_HERE | _COUNTS)
    require_spelling(options, ["include_usage"])
    require_counts(body)
    further = {name: value for name, value in options.items() if name != "include_usage"}
    parameters = {name: value for name, value in body.items() if name not in _READ_HERE}
    return {**parameters, **({"stream_options": further} if further else {})}


def _own_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    """What only Rolebook knows: from its field, else from headers."""
    given = body.get(OWN_FIELD)
    if not isinstance(given, dict | None):
        raise InputError("%(key)s must be an object.", key=OWN_FIELD)
    own = given or {}
    unknown = next((name for name in own if name not in _OWN_NAMES), None)
    if unknown is not None:
        raise InputError(
            "%(key)s is no field that Rolebook knows. There are: %(known)s.",
            key=f"{OWN_FIELD}.{unknown[:80]}",
            known=", ".join(_OWN_NAMES),
        )
    headers = this_request().headers
    variables = own.get("variables")
    if variables in (None, {}):
        variables = _header_variables(headers.get(VARIABLES_HEADER))
    if not isinstance(variables, dict):
        raise InputError("%(key)s must be an object.", key=f"{OWN_FIELD}.variables")
    texts: dict[str, str] = {}
    for name, header in (("session", headers.get(SESSION_HEADER, "")), ("upstream", "")):
        text = own.get(name)
        if not isinstance(text, str | None):
            raise InputError("%(key)s must be a text.", key=f"{OWN_FIELD}.{name}")
        texts[name] = text or header
        require_short(f"{OWN_FIELD}.{name}", texts[name])
    return {**texts, "variables": variables}


def _header_variables(header: str | None) -> Any:
    """Headers are bytes, and come as texts with a character for each. Of JSON they are UTF-8, or else another text than
    was meant.
    """
    if not header:
        return {}
    try:
        return current_app.json.loads(header.encode("latin-1").decode())
    except ValueError:
        raise InputError(
            "The header %(key)s must be a JSON object in UTF-8, or with what is not ASCII escaped.",
            key=VARIABLES_HEADER,
        ) from None
