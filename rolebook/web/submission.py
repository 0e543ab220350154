"""What a page sends, whether as a form or as JSON: the same names with the same meaning."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from flask import current_app, request
from flask.json.provider import DefaultJSONProvider

from rolebook.core.errors import InputError
from rolebook.core.frozen import frozen
from rolebook.core.persona import parse_parameters
from rolebook.core.session import Session, new_id
from rolebook.web.current import this_request
from rolebook.web.errors import RequestError

#: Far above what any form here has, far below what would cost time.
MAX_FIELDS = 1000
#: Prefixes of the fields that carry a persona's variables and the sampling parameters.
VARIABLE, SAMPLING = "v-", "s-"


class StrictJSONProvider(DefaultJSONProvider):
    """JSON as the standard has it: no NaN, no lone surrogates, no nesting that exhausts the stack."""

    ensure_ascii = False
    sort_keys = False

    def loads(self, s: str | bytes, **_: Any) -> Any:
        """Raises ValueError, which Flask answers with 400."""
        try:
            text = s if isinstance(s, str) else s.decode(json.detect_encoding(s), "surrogatepass")
            value = _decoder.decode(text)
            _checker.encode(value).encode()
        except RecursionError:
            raise ValueError("nested too deeply") from None
        return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


# To make one for each text takes longer than to read a short one.
_decoder = json.JSONDecoder(parse_constant=_refuse)
_checker = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


def sent_json() -> Any:
    """The JSON that a program has sent, and has called so. Raises RequestError."""
    asked = this_request()
    if not asked.is_json:
        raise RequestError(
            "Send JSON, and say so in a header: Content-Type: application/json.", status=415
        )
    packed = asked.headers.get("Content-Encoding", "identity")
    if packed != "identity":
        raise RequestError(
            "Send the body as it is: Rolebook unpacks nothing (Content-Encoding: %(packed)s).",
            status=415,
            packed=packed[:40],
        )
    try:
        return current_app.json.loads(asked.get_data(cache=False))
    except ValueError as error:
        raise RequestError(
            "The request is no JSON that can be used: %(reason)s.",
            status=400,
            reason=str(error)[:200],
        ) from None


def submitted() -> dict[str, str]:
    """The fields of a form or of a JSON object, as text; of several with one name the last counts.

    Browsers send a line break as CRLF: here it is LF. Raises RequestError if it is neither.
    """
    if request.is_json:
        return {name: _unified(value) for name, value in _json_fields().items()}
    return {name: _unified(values[-1]) for name, values in request.form.lists()}


def _json_fields() -> Mapping[str, str]:
    data = request.get_json()
    if not isinstance(data, dict) or len(data) > MAX_FIELDS:
        raise RequestError("This must be a JSON object with texts.", status=400)
    if not all(isinstance(value, str) for value in data.values()):
        raise RequestError("This must be a JSON object with texts.", status=400)
    return data


def _unified(text: str) -> str:
    return text.replace("\r\n", "\n")


def fields_under(prefix: str, fields: Mapping[str, str]) -> dict[str, str]:
    """The fields whose names begin with a prefix, without it."""
    return {
        name.removeprefix(prefix): value
        for name, value in fields.items()
        if name.startswith(prefix)
    }


@frozen
class Start:
    """A session as somebody wants to begin it, for ``ChatService.start_session`` and ``prepare``.

    ``system`` is the text of a role without a file; ``input`` is what is said first, if anything.
    """

    session: Session
    system: str = ""
    input: str = ""


def start_of(fields: Mapping[str, str]) -> Start:
    """Read what somebody has chosen.

    The fields are ``persona`` or ``system`` (``q`` in the gallery's own form), ``input``, ``model``, ``upstream``,
    ``v-NAME`` for variables, ``s-NAME`` for sampling parameters and ``more`` for other request fields. A sampling
    parameter left blank stays as the persona has it. Raises InputError.
    """
    session = Session(
        id=new_id(),
        persona_id=fields.get("persona", ""),
        revision="",
        variables=fields_under(VARIABLE, fields),
        upstream=fields.get("upstream", "").strip(),
        model=fields.get("model", "").strip(),
        parameters=_parameters(fields),
    )
    system = fields.get("system") or fields.get("q", "")
    return Start(session, system=system, input=fields.get("input", ""))


def _parameters(fields: Mapping[str, str]) -> dict[str, Any]:
    given: dict[str, object] = {
        name: texts_of(value) if name == "stop" else value.strip()
        for name, value in fields_under(SAMPLING, fields).items()
        if value.strip()
    }
    return parse_parameters({**given, **_more(fields.get("more", ""))})


def texts_of(lines: str) -> list[str]:
    """The texts that are typed one a line, with ``\\n`` for a line break inside one."""
    return [line.replace("\\n", "\n") for line in lines.split("\n") if line]


def lines_of(texts: Sequence[str]) -> str:
    """Texts as they are typed; the opposite of ``texts_of``."""
    return "\n".join(text.replace("\n", "\\n") for text in texts)


def _more(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in text.split("\n"):
        if not line.strip():
            continue
        name, equals, value = line.partition("=")
        if not equals or not name.strip():
            raise InputError(
                "Write each further field as name=value on a line of its own, got '%(got)s'.",
                key="more",
                got=line[:40],
            )
        found[name.strip()] = value.strip()
    return found
