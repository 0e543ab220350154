"""Every error that Rolebook raises on purpose, in one tree.

    RolebookError
    ├── InputError                  what somebody typed or wrote cannot be used
    │   ├── FileError               one or more problems in files, each with line and column
    │   ├── VariableError           a variable of a persona is missing or does not fit
    │   ├── UnplannableError        a comparison that cannot be planned, with all that is wrong in it (core.planning)
    │   ├── NothingSaidYetError     … because nobody has said anything yet to the persona whose inputs it takes
    │   ├── SettingError            a setting, flag or environment variable does not fit
    │   └── PromptError             a prompt template or a persona's text fails to render
    │       └── PromptLimitError    … because it passed a limit of time, memory or output
    ├── NotFoundError               no persona, session, turn or template of that name
    ├── ConflictError               it changed meanwhile, or the name is taken
    ├── AccessError                 whoever asks may not, or not now
    │   ├── LoginError              nobody has logged in, or what they said is wrong
    │   ├── RightError              they have, and it is not theirs to do
    │   ├── RateLimitError          too many requests in a minute
    │   └── BudgetError             a key has used up its tokens or money
    ├── LibraryError                a file of the library cannot be read or written
    ├── StorageError                the log cannot be read or written
    └── UpstreamError               the server that answers, did not
        ├── UpstreamKeyError        key missing, empty or refused
        ├── UpstreamRefusedError    the request itself was refused
        │   └── UpstreamModelError  … because there is no such model
        ├── UpstreamRateError       too many requests
        │   └── UpstreamQuotaError  the quota is used up: waiting does not help
        ├── UpstreamTimeoutError    a time limit passed
        ├── UpstreamSilentError     not asked, because it has not answered for a while
        ├── UpstreamConnectionError no connection, or it broke
        ├── UpstreamServerError     the server failed (5xx)
        ├── UpstreamReplyError      what came back is no OpenAI-compatible reply
        └── UpstreamCancelled       the caller asked to stop

A message is an English template with ``%(name)s`` placeholders; it is the gettext id of its translation, so that
one error can be shown in several languages. ``str(error)`` is the English text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import PurePath
from typing import Any, ClassVar, Literal

from rolebook.core.frozen import frozen


@frozen
class Phrase:
    """Words that stand inside a message, themselves an English template that can be translated."""

    message: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.message % self.parameters


#: As much of a text as a message quotes: what somebody sent may be of any length, and comes back in words about it.
_MOST_QUOTED = 1000
_PHRASE = {"message", "parameters"}


def phrase_data(said: Phrase) -> dict[str, Any]:
    """A phrase as plain data. One that stands inside of it is a mapping like itself."""
    parameters = {
        name: phrase_data(value) if isinstance(value, Phrase) else value
        for name, value in said.parameters.items()
    }
    return {"message": said.message, "parameters": parameters}


def phrase_of(data: Mapping[str, Any]) -> Phrase:
    """What :func:`phrase_data` was given."""
    parameters = {
        name: phrase_of(value) if isinstance(value, dict) and set(value) == _PHRASE else value
        for name, value in data["parameters"].items()
    }
    return Phrase(data["message"], parameters)


class RolebookError(Exception):
    """The root. ``code`` names the kind in logs, exports and over HTTP; it never changes with the language.

    Arguments:
        message: English text with ``%(name)s`` placeholders.
        parameters: what the placeholders stand for; long texts are cut.
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str, **parameters: Any) -> None:
        super().__init__(message)
        self.message = message
        self.parameters = {name: _quoted(value) for name, value in parameters.items()}

    @property
    def said(self) -> Phrase:
        """The same where it stands in other words that are kept. Of a file it names no more than the file itself."""
        return Phrase(self.message, self.parameters)

    def __str__(self) -> str:
        return self.message % self.parameters


def _quoted(value: Any) -> Any:
    if isinstance(value, str) and len(value) > _MOST_QUOTED:
        return value[: _MOST_QUOTED - 1] + "…"
    return value


class InputError(RolebookError):
    code = "invalid_input"


@frozen
class Problem:
    """One thing that is wrong, or doubtful, in one place of one file.

    ``line`` and ``column`` count from 1; 0 means that the place is not known, as an empty ``file`` does. ``message``
    is an English template as in :class:`RolebookError`.
    """

    file: str
    line: int
    column: int
    message: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    severity: Literal["error", "warning"] = "error"

    @property
    def text(self) -> str:
        """The message in English, without the place."""
        return self.message % self.parameters

    @property
    def place(self) -> str:
        """``file:line:column`` as far as they are known."""
        return ":".join([self.file, *(str(part) for part in (self.line, self.column) if part)])

    def as_data(self) -> dict[str, Any]:
        """As JSON has it, in English."""
        return {
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "severity": self.severity,
            "message": self.text,
        }

    def __str__(self) -> str:
        warning = "warning: " if self.severity == "warning" else ""
        place = f"{self.place}: " if self.place else ""
        return f"{place}{warning}{self.text}"


class FileError(InputError):
    """A file that cannot be used, with all that was found wrong in it."""

    code = "invalid_file"

    def __init__(self, problems: Sequence[Problem]) -> None:
        first = next((p for p in problems if p.severity == "error"), problems[0])
        super().__init__(first.message, **first.parameters)
        self.problems = tuple(problems)
        self._place = first.place

    @property
    def said(self) -> Phrase:
        return _phrase_at(self._place, super().said)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


def _phrase_at(place: str, said: Phrase) -> Phrase:
    """A phrase with the place that it is about before it, if that is known."""
    if not place:
        return said
    return Phrase("%(place)s: %(reason)s", {"place": PurePath(place).name, "reason": said})


class VariableError(InputError):
    """A variable's value is missing or does not fit; ``name`` is the variable."""

    code = "invalid_variable"

    def __init__(self, message: str, *, name: str, **parameters: Any) -> None:
        super().__init__(message, name=name, **parameters)
        self.name = str(self.parameters["name"])


class SettingError(InputError):
    code = "invalid_setting"


class PromptError(InputError):
    """Rendering failed. ``file``, ``line`` and ``column`` (0: unknown) say where in a template or persona."""

    code = "invalid_prompt"

    def __init__(
        self, message: str, *, file: str = "", line: int = 0, column: int = 0, **parameters: Any
    ) -> None:
        super().__init__(message, **parameters)
        self.file = file
        self.line = line
        self.column = column

    @property
    def place(self) -> str:
        """``file:line:column`` as far as they are known."""
        return ":".join([self.file, *(str(part) for part in (self.line, self.column) if part)])

    @property
    def said(self) -> Phrase:
        return _phrase_at(self.place, super().said)

    def __str__(self) -> str:
        return f"{self.place}: {super().__str__()}" if self.place else super().__str__()


class PromptLimitError(PromptError):
    code = "prompt_limit"


class NotFoundError(RolebookError):
    code = "not_found"


class ConflictError(RolebookError):
    code = "conflict"


class AccessError(RolebookError):
    """``retry_after_s`` says when it is worth another try, if it ever is."""

    code = "forbidden"

    def __init__(
        self, message: str, *, retry_after_s: float | None = None, **parameters: Any
    ) -> None:
        super().__init__(message, **parameters)
        self.retry_after_s = retry_after_s


class LoginError(AccessError):
    code = "invalid_api_key"


class RightError(AccessError):
    code = "forbidden"


class RateLimitError(AccessError):
    code = "rate_limit_exceeded"


class BudgetError(AccessError):
    code = "insufficient_quota"


class BudgetHeldError(BudgetError):
    """What is left is held by turns that run, so that there may be some of it again in a moment."""

    code = "rate_limit_exceeded"


class LibraryError(RolebookError):
    code = "library"


class StorageError(RolebookError):
    code = "storage"


#: What came of asking one that has said nothing itself, by the code of its error.
_OUTCOMES: Mapping[str, Phrase] = {
    "upstream_key": Phrase("no key can be used"),
    "upstream_refused": Phrase("refused the request"),
    "upstream_rate": Phrase("takes no more calls for now"),
    "upstream_quota": Phrase("the quota is used up"),
    "upstream_timeout": Phrase("no answer in time"),
    "upstream_silent": Phrase("has not been answering for a while"),
    "upstream_connection": Phrase("could not be reached"),
    "upstream_reply": Phrase("sent something that is no answer"),
}
_FAILED = Phrase("failed")


def detail_of(parameters: Mapping[str, Any]) -> Phrase | str:
    """The upstream's own words in the parameters of its error, and by name what came of those asked in its place."""
    detail: Phrase | str = parameters.get("detail") or ""
    for other in parameters.get("others") or ():
        reason = other["detail"] or _OUTCOMES.get(other["code"], _FAILED)
        told = Phrase("%(upstream)s: %(reason)s", {"upstream": other["upstream"], "reason": reason})
        detail = Phrase("%(one)s; %(next)s", {"one": detail, "next": told}) if detail else told
    return detail


def with_detail(text: str, detail: Phrase | str | None) -> str:
    """A message with the upstream's own words behind it, where it gave some."""
    return f"{text} ({detail})" if detail else text


def phrase_with_detail(said: Phrase, detail: Phrase | str | None) -> Phrase:
    """The same of a phrase."""
    return Phrase("%(said)s (%(detail)s)", {"said": said, "detail": detail}) if detail else said


class UpstreamError(RolebookError):
    """The upstream did not answer as asked.

    ``status`` is the HTTP status that it sent, if it sent one; ``detail`` its own words, with keys
    removed and cut to a readable length; ``retry_after_s`` the seconds it asked to wait. Its parameter
    ``others`` has what came of those that were asked in its place, where there are any.
    """

    code = "upstream"
    #: Whether the same request may succeed when it is simply sent once more.
    is_transient: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        detail: str = "",
        retry_after_s: float | None = None,
        **parameters: Any,
    ) -> None:
        super().__init__(
            message, status=status, detail=detail, retry_after_s=retry_after_s, **parameters
        )
        self.status = status
        self.detail = detail
        self.retry_after_s = retry_after_s

    @property
    def said(self) -> Phrase:
        return phrase_with_detail(super().said, detail_of(self._told))

    def __str__(self) -> str:
        return with_detail(super().__str__(), detail_of(self._told))

    @property
    def outcome(self) -> dict[str, Any]:
        """What came of asking it, as plain data: one of the ``others`` of an error."""
        return {
            "upstream": str(self.parameters.get("upstream", "")),
            "code": self.code,
            "status": self.status,
            "detail": self.detail,
            "retry_after_s": self.retry_after_s,
            "has_begun": bool(self.parameters.get("has_begun")),
        }

    @property
    def _told(self) -> Mapping[str, Any]:
        return {**self.parameters, "detail": self.detail}


class UpstreamKeyError(UpstreamError):
    code = "upstream_key"


class UpstreamRefusedError(UpstreamError):
    code = "upstream_refused"


class UpstreamModelError(UpstreamRefusedError):
    pass


class UpstreamRefusedHereError(UpstreamRefusedError):
    """Refused for what another upstream may not mind: a limit of the account, or something on the way."""


class UpstreamCreditError(UpstreamRefusedHereError):
    """Refused because the account of a key cannot pay for this request; that of another key may."""


class UpstreamRateError(UpstreamError):
    code = "upstream_rate"
    is_transient = True


class UpstreamQuotaError(UpstreamRateError):
    code = "upstream_quota"
    is_transient = False


class UpstreamTimeoutError(UpstreamError):
    """Its parameter ``has_begun`` is true where a part of the answer had arrived by then."""

    code = "upstream_timeout"


class UpstreamSilentError(UpstreamError):
    code = "upstream_silent"


class UpstreamConnectionError(UpstreamError):
    code = "upstream_connection"
    is_transient = True


class UpstreamProxyError(UpstreamConnectionError):
    """The proxy on the way lets nothing through."""


class UpstreamBrokenError(UpstreamConnectionError):
    """There was a connection, and it ended too soon."""


class UpstreamServerError(UpstreamError):
    code = "upstream_server"
    is_transient = True


class UpstreamReplyError(UpstreamError):
    code = "upstream_reply"


class UpstreamCancelled(UpstreamError):
    code = "cancelled"


class CutOffError(UpstreamError):
    """Rolebook itself was stopped while an answer was under way."""

    code = "stopped"
