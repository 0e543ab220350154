"""The border: whatever goes wrong below becomes one of our errors here, once, in plain words and without secrets."""

from __future__ import annotations

import errno
import re
import socket
import ssl
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from rolebook.core.access import Right, may, payer
from rolebook.core.errors import (
    UpstreamBrokenError,
    UpstreamConnectionError,
    UpstreamCreditError,
    UpstreamError,
    UpstreamKeyError,
    UpstreamModelError,
    UpstreamProxyError,
    UpstreamQuotaError,
    UpstreamRateError,
    UpstreamRefusedError,
    UpstreamRefusedHereError,
    UpstreamReplyError,
    UpstreamServerError,
    UpstreamTimeoutError,
)
from rolebook.core.upstream import Key, UpstreamSettings
from rolebook.upstream.address import proxy_for, shown_url
from rolebook.upstream.key_pool import KEY_REFUSED
from rolebook.upstream.pace import asked_pause, retry_after
from rolebook.upstream.redaction import Redactor
from rolebook.upstream.reply import FailedReply, no_answer, reason_of

MAX_DETAIL = 500
"""The longest reason of a server that is passed on, in characters."""

_UNSEEN = re.compile(r"<(script|style)\b.*?(</\1\s*>|$)", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"</?[a-zA-Z!][^<>]*>")
_QUOTA = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")
_MORE_THAN_A_MINUTE = re.compile(
    r"\brequest too large\b|\bmust be reduced in order to run\b", re.IGNORECASE
)
"""Words of OpenAI for a request with more tokens than a key may send in a minute. No key of that kind takes it, however
long it rests."""
_MORE_THAN_CREDIT = re.compile(
    r"\bfewer max_tokens\b(?!.*\bcan only afford [0-])|\bprompt tokens limit exceeded\b",
    re.IGNORECASE | re.DOTALL,
)
"""Words of OpenRouter for a request that may become dearer than what is left; shorter ones are answered yet."""
_PAGE = re.compile(r"\s*<(!doctype|html)\b", re.IGNORECASE)
_NO_SUCH_MODEL = ("model_not_found", "deploymentnotfound")
"""Codes of OpenAI, and of Azure, where a model goes by the name of its deployment."""
_UNKNOWN_MODEL = re.compile(
    r"\b(invalid|unknown|unsupported|no such) model( name| id|[:=.]| ?['\"`]|$)"
    r"|\bmodel( \S{1,200})? ((does not|doesn't|not) exist|(is )?not found)"
    r"|模型不存在",
    re.IGNORECASE,
)
"""Words of LiteLLM, Mistral, DeepSeek, DashScope, Ollama and Zhipu, of which some come with status 400."""
_FLAGGED = re.compile(r"\b(flagged|moderation|content policy|content filter)", re.IGNORECASE)
"""Words of OpenRouter, Azure and others for an input that they do not pass on."""
_ROLES_REFUSED = re.compile(
    r"system (role|message)s? (is |are )?not supported"
    r"|does ?n[o']t support (the )?system (role|message|prompt|instruction)"
    r"|only user and assistant roles are supported"
    r"|roles must alternate",
    re.IGNORECASE,
)
"""What chat templates say (Gemma, Llama 2, Mistral and their heirs); servers pass it on with one status or another."""
_HEADERS_TOO_LARGE = 431
"""What h11 hints at when headers pass its limit of 100 KB."""
NO_FILE_LEFT = (errno.EMFILE, errno.ENFILE)
_NO_WAY = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL)
_OUT_OF_TIME = (9, 10)
_OTHER_NAME = (62, 64)
"""What OpenSSL calls a certificate that is not valid yet or no more, and one for another name or another address."""
_UNENCRYPTED = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE")
"""What OpenSSL says of a server that answers an encrypted greeting without encryption."""
_NO_HTTP = "Expected HTTP/"
"""How llhttp begins what it says of an answer that is none of HTTP."""
_NOT_WRITABLE = (TypeError, ValueError, RecursionError)


class ErrorMapper:
    """Explains everything that can go wrong with one upstream.

    Arguments:
        redactor: knows its keys.
    """

    def __init__(self, settings: UpstreamSettings, redactor: Redactor) -> None:
        self._settings = settings
        self._redactor = redactor

    def explain(
        self, reason: BaseException, *, key: Key | None = None, is_sent: bool = True
    ) -> UpstreamError:
        """The error to raise for ``reason``, complete and with no trace of what caused it.

        What the system says, such as a number of it, is the parameter ``cause``: kept, and not shown.

        Arguments:
            key: what the call was made with.
            is_sent: whether the request had left; what fails before that lies in the request.
        """
        error = self._mapped(reason, key, is_sent)
        error.detail = self.clean(error.detail)
        error.parameters["detail"] = error.detail
        if "cause" in error.parameters:
            error.parameters["cause"] = self.clean(error.parameters["cause"])
        error.parameters["upstream"] = self._settings.name
        # A foreign exception in the chain would carry the key into tracebacks.
        error.__cause__ = error.__context__ = None
        return error.with_traceback(None)

    def clean(self, detail: str) -> str:
        """A server's own words as one line of plain text: no secret, no HTML, no control characters, not too long."""
        text = self._redactor.redact(detail[: 40 * MAX_DETAIL])
        text = _TAG.sub(" ", _UNSEEN.sub(" ", text)).replace("<", "‹").replace(">", "›")
        text = "".join(" " if unicodedata.category(char).startswith("C") else char for char in text)
        text = " ".join(text.split())
        return text if len(text) <= MAX_DETAIL else text[: MAX_DETAIL - 1] + "…"

    def _mapped(self, reason: BaseException, key: Key | None, is_sent: bool) -> UpstreamError:
        chain = tuple(_chain(reason))
        for link in chain:
            if isinstance(link, UpstreamError):
                return link
            if isinstance(link, OSError) and link.errno in NO_FILE_LEFT:
                # It says nothing of the upstream.
                return UpstreamError(
                    "Rolebook has as many files open as the system lets it, so it could not call %(upstream)s. "
                    "Try again in a moment, or allow it more (ulimit -n)."
                )
        if isinstance(reason, FailedReply):
            return self._reported(reason, key)
        return self._foreign(reason, chain, key, is_sent) or UpstreamError(
            "The call to %(upstream)s failed in an unexpected way (%(kind)s). Try again; if it stays, report it.",
            kind=type(reason).__name__,
            detail=str(reason),
        )

    def _foreign(
        self,
        reason: BaseException,
        chain: tuple[BaseException, ...],
        key: Key | None,
        is_sent: bool,
    ) -> UpstreamError | None:
        # The client is loaded by the time that one of its exceptions gets here, and never before it is needed.
        import httpcore2
        import httpx2
        import openai

        from rolebook.upstream.http1 import endless_headers

        if isinstance(reason, openai.APIStatusError):
            return self._refused(reason.status_code, reason.body, reason.response.headers, key)
        if not is_sent and isinstance(reason, _NOT_WRITABLE):
            return _not_writable(reason)
        for link in chain:
            if isinstance(link, httpcore2.LocalProtocolError | httpx2.LocalProtocolError):
                return _not_writable(link)
            if getattr(link, "error_status_hint", 0) == _HEADERS_TOO_LARGE:
                return endless_headers()
            if isinstance(link, httpcore2.ProxyError):
                return self._no_proxy(link)
            if isinstance(link, httpcore2.TimeoutException):
                return self._no_connection_in_time()
            if isinstance(link, httpcore2.ConnectError):
                return self._no_connection(link, chain)
            if isinstance(link, httpcore2.RemoteProtocolError | httpx2.RemoteProtocolError):
                return self._no_http(link) if _NO_HTTP in str(link) else _broken(link)
        return _broken(reason)

    def _refused(
        self, status: int, body: Any, headers: Mapping[str, str], key: Key | None
    ) -> UpstreamError:
        code, param, detail = _code_of(body), _field(body, "param"), reason_of(body)
        retry_after_s = asked_pause(headers) if status == 429 else retry_after(headers)
        facts: dict[str, Any] = {"status": status, "detail": detail, "retry_after_s": retry_after_s}
        if status == 403 and isinstance(body, str) and _PAGE.match(body):
            # Servers of this kind speak JSON; one that refuses a key would say so.
            return UpstreamRefusedHereError(
                "Something before %(upstream)s refused this request with a page of its own (status 403), as firewalls "
                "do with words that look dangerous to them, or with a whole address. Ask whoever runs it.",
                **facts,
            )
        if status == 401 or (status == 403 and not _is_about_input(code, detail)):
            return _key_refused(status, key, facts)
        if status == 402 and _MORE_THAN_CREDIT.search(detail):
            return UpstreamCreditError(
                "The account of the key for %(upstream)s cannot pay for as much as this request may use. Ask for a "
                "shorter answer (max_tokens), shorten the input, or add credit.",
                **facts,
            )
        if status == 402 or (status == 429 and code in _QUOTA):
            return UpstreamQuotaError(
                "The quota of the key for %(upstream)s is used up. Add credit or raise its limit in the account that "
                "the key belongs to, or use another key.",
                **facts,
            )
        if (status == 429 and _MORE_THAN_A_MINUTE.search(detail)) or (
            # So Groq tells the same.
            status == 413 and code == "rate_limit_exceeded"
        ):
            return _too_large(UpstreamRefusedHereError, facts | {"retry_after_s": None})
        if status == 429:
            return UpstreamRateError(
                "%(upstream)s gets too many requests from this key. Wait a little and try again.",
                **facts,
            )
        facts |= {"reason_code": self.clean(code)[:80], "param": self.clean(param)[:80]}
        if _ROLES_REFUSED.search(detail):
            return _roles_refused(**facts)
        if status in (408, 425) or status >= 500:
            return UpstreamServerError(
                "%(upstream)s failed with status %(status)d. The trouble is on its side: try again in a moment.",
                **facts,
            )
        return self._request_refused(status, code, detail, facts)

    def _request_refused(
        self, status: int, code: str, detail: str, facts: dict[str, Any]
    ) -> UpstreamError:
        words = detail.lower()
        if (
            code == "context_length_exceeded"
            or "context length" in words
            or "context window" in words
        ):
            return UpstreamRefusedError(
                "The messages are longer than the model can take. Shorten the input, let the persona send less "
                "history (context), or choose a model with a larger context.",
                **facts,
            )
        if (
            code in _NO_SUCH_MODEL
            or (status == 404 and "model" in words)
            or _UNKNOWN_MODEL.search(detail)
        ):
            return UpstreamModelError(
                "%(upstream)s has no such model, or the key may not use it. `rolebook models` lists what it offers.",
                **facts,
            )
        if status in (404, 405):
            return UpstreamRefusedError(
                "%(upstream)s does not know this address (status %(status)d). Check the base URL %(base_url)s: for "
                "most servers it ends in /v1.",
                base_url=self._settings.base_url,
                **facts,
            )
        if 300 <= status < 400:
            return UpstreamRefusedError(
                "%(upstream)s sends us on to another address (status %(status)d), which is not followed, so that no "
                "key goes astray. Set the base URL to the final address.",
                **facts,
            )
        if status == 407:
            return self._no_proxy(detail)
        if status == 413:
            return _too_large(UpstreamRefusedError, facts)
        # Whoever names a parameter has read the request, and would have read it with a key too.
        if not self._settings.keys and not facts["param"]:
            return UpstreamRefusedError(
                "%(upstream)s refused the request with status %(status)d. No key is set for it: if it wants one, put "
                "it into OPENAI_API_KEY, or under keys of this upstream in rolebook.yaml.",
                **facts,
            )
        return UpstreamRefusedError(
            "%(upstream)s refused the request with status %(status)d.", **facts
        )

    def _reported(self, reported: FailedReply, key: Key | None) -> UpstreamError:
        """A failure that came with status 200."""
        error = reported.error
        if _ROLES_REFUSED.search(reason_of(error)):
            return _roles_refused(detail=reason_of(error))
        code, status = _code_of(error), error.get("code") if isinstance(error, dict) else None
        if type(status) is not int or not 400 <= status < 600:
            status = next((likely for word, likely in _LIKELY_STATUS.items() if word in code), 0)
        if 400 <= status < 500:
            return self._refused(status, error, {}, key)
        if reported.is_whole:
            return no_answer(error)
        kind = UpstreamServerError if status else UpstreamReplyError
        return kind(
            "%(upstream)s reported an error instead of going on with the answer. Try again.",
            detail=reason_of(error),
        )

    def _no_connection(
        self, reason: BaseException, chain: tuple[BaseException, ...]
    ) -> UpstreamError:
        """Why there is none, in words for people; ``chain`` has the system's own."""
        facts: dict[str, Any] = {"base_url": self._settings.base_url, "cause": str(reason)}
        for link in chain:
            if isinstance(link, ssl.SSLError):
                return _not_encrypted(link, facts)
        if proxy := proxy_for(self._settings):
            return UpstreamConnectionError(
                "No connection to %(upstream)s through the proxy %(proxy)s. Check that the proxy runs and that its "
                "address is right.",
                proxy=shown_url(proxy),
                cause=str(reason),
            )
        for link in chain:
            if isinstance(link, socket.gaierror):
                return UpstreamConnectionError(
                    "The name in the address %(base_url)s is not known, so %(upstream)s cannot be reached. Check the "
                    "address, and that this computer is online.",
                    **facts,
                )
            if isinstance(link, ConnectionRefusedError):
                return UpstreamConnectionError(
                    "Nothing listens at %(base_url)s. Check that %(upstream)s runs and that the address is right.",
                    **facts,
                )
            if isinstance(link, OSError) and link.errno in _NO_WAY:
                return UpstreamConnectionError(
                    "There is no way from here to %(upstream)s at %(base_url)s. Check the network, and that the "
                    "address is right.",
                    **facts,
                )
        return UpstreamConnectionError(
            "No connection to %(upstream)s at %(base_url)s. Check that it runs and that the address is right.",
            **facts,
        )

    def _no_http(self, reason: BaseException) -> UpstreamError:
        return UpstreamConnectionError(
            "What answers at %(base_url)s does not speak HTTP, or only with encryption. Check the port of "
            "%(upstream)s, and whether its address begins with https.",
            base_url=self._settings.base_url,
            cause=str(reason),
        )

    def _no_connection_in_time(self) -> UpstreamError:
        return UpstreamTimeoutError(
            "No connection to %(upstream)s at %(base_url)s within %(seconds)g s. Check the address, and the "
            "network between.",
            base_url=self._settings.base_url,
            seconds=self._settings.timeouts.connect_s,
        )

    def _no_proxy(self, reason: BaseException | str) -> UpstreamError:
        return UpstreamProxyError(
            "The proxy on the way to %(upstream)s refused the connection. Check its address, user name and password.",
            detail=str(reason),
        )


def _too_large(kind: type[UpstreamRefusedError], facts: dict[str, Any]) -> UpstreamError:
    return kind(
        "The request is too large for %(upstream)s. Shorten the input, or send less history.",
        **facts,
    )


def _key_refused(status: int, key: Key | None, facts: dict[str, Any]) -> UpstreamError:
    if key is None and status == 403:
        return UpstreamKeyError(
            "%(upstream)s does not allow this, and no key is set for it. If it wants one, put it into "
            "OPENAI_API_KEY, or under keys of this upstream in rolebook.yaml.",
            **facts,
        )
    if status == 403:
        return UpstreamKeyError(
            "%(upstream)s does not allow this with the key in use. Check what the key, its project and its region "
            "may do.",
            **facts,
        )
    if key is None:
        return UpstreamKeyError(
            "%(upstream)s wants a key and none is set. Put it into OPENAI_API_KEY, or under keys of this upstream "
            "in rolebook.yaml.",
            **facts,
        )
    if not may(payer(), Right.WATCH):
        return UpstreamKeyError(KEY_REFUSED, **facts)
    return UpstreamKeyError(
        "%(upstream)s does not accept the key %(hint)s from %(source)s. Check that it is whole, not revoked, and "
        "meant for this address.",
        hint=key.hint,
        source=key.source or "the settings",
        **facts,
    )


def _not_encrypted(reason: ssl.SSLError, facts: Mapping[str, Any]) -> UpstreamError:
    """Why there is no encrypted connection."""
    if isinstance(reason, ssl.SSLCertVerificationError):
        if reason.verify_code in _OUT_OF_TIME:
            return UpstreamConnectionError(
                "The certificate of %(upstream)s at %(base_url)s is not valid today. Whoever runs the server has to "
                "renew it, unless the clock of this computer is wrong.",
                **facts,
            )
        if reason.verify_code in _OTHER_NAME:
            return UpstreamConnectionError(
                "The certificate of whoever answers at %(base_url)s is for another name, so it may not be "
                "%(upstream)s. Check the address.",
                **facts,
            )
        return UpstreamConnectionError(
            "This computer does not trust the certificate of %(upstream)s at %(base_url)s. One of your own is trusted "
            "when SSL_CERT_FILE names it.",
            **facts,
        )
    if reason.reason in _UNENCRYPTED:
        return UpstreamConnectionError(
            "What answers at %(base_url)s does not speak https. If %(upstream)s runs there without encryption, its "
            "address begins with http://.",
            **facts,
        )
    return UpstreamConnectionError(
        "No encrypted connection to %(upstream)s at %(base_url)s: its certificate or its protocol is not "
        "accepted. A certificate of your own is trusted when SSL_CERT_FILE names it.",
        **facts,
    )


_LIKELY_STATUS = {
    "insufficient_quota": 429,
    "rate_limit": 429,
    "api_key": 401,
    "authentication": 401,
    "permission": 403,
    "context_length": 400,
    "invalid_request": 400,
    "server_error": 500,
    "overloaded": 529,
    "unavailable": 503,
    "timeout": 504,
}
"""The status that a server would have sent for an error of this code or type, had it not begun to answer."""


def _chain(reason: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while reason is not None and id(reason) not in seen:
        seen.add(id(reason))
        yield reason
        reason = reason.__cause__ or reason.__context__


def _roles_refused(**facts: Any) -> UpstreamError:
    return UpstreamRefusedError(
        "The model behind %(upstream)s takes no system message, or only user and assistant messages in turn. Write "
        "`template: no-system` into the persona: that prompt template puts the system text into the first user "
        "message.",
        **facts,
    )


def _not_writable(reason: BaseException) -> UpstreamError:
    return UpstreamRefusedError(
        "The request to %(upstream)s cannot be written as JSON and HTTP: a parameter or a message holds something "
        "that neither of them knows.",
        detail=str(reason),
    )


def _broken(reason: BaseException) -> UpstreamError | None:
    import zlib

    import httpcore2
    import httpx2
    import openai

    if isinstance(reason, zlib.error):
        return UpstreamReplyError(
            "%(upstream)s sent a compressed answer that cannot be unpacked. Try again."
        )
    if isinstance(
        reason,
        httpcore2.NetworkError
        | httpcore2.ProtocolError
        | httpx2.HTTPError
        | openai.APIConnectionError
        | OSError,
    ):
        # What is wrong with an answer is for whoever runs the server; what the system says, for nobody who asks.
        is_answer = isinstance(reason, httpcore2.ProtocolError | httpx2.ProtocolError)
        said: dict[str, Any] = {"detail" if is_answer else "cause": str(reason)}
        return UpstreamBrokenError(
            "The connection to %(upstream)s broke before the answer was finished. Try again.",
            **said,
        )
    return None


def _is_about_input(code: str, detail: str) -> bool:
    """Whether a 403 refuses what was asked (a model, a flagged text) and not who asks."""
    return (
        code in _NO_SUCH_MODEL
        or _UNKNOWN_MODEL.search(detail) is not None
        or _FLAGGED.search(detail) is not None
    )


def _code_of(body: Any) -> str:
    """Code and type of an error object, in one lower-case word; the code alone if it says enough."""
    code, kind = _field(body, "code"), _field(body, "type")
    return (code or kind).lower()


def _field(body: Any, name: str) -> str:
    value = body.get(name) if isinstance(body, dict) else None
    return value if isinstance(value, str) else ""
