"""Answers of an upstream in a file: written as they come, and found again by what was asked.

A recording is JSON Lines, one exchange a line: the request, the answer as it came, piece by piece, and how long each
piece took. No key is in it: headers are left out, and what a server repeats of a key is removed. A request is found by
its digest, which leaves out whether it was streamed, so that pages, commands and comparisons share a recording.
"""

from __future__ import annotations

import base64
import codecs
import hashlib
import json
import logging
import os
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from rolebook.core.errors import UpstreamError, UpstreamRefusedError
from rolebook.core.frozen import frozen
from rolebook.upstream.redaction import Redactor

LASTING = (200, 400, 404, 413, 422)
"""Statuses that hang on the request. The others, of limits, keys and passing trouble, would be no use the next time."""

_FORMAT = 1
_BEGIN = f'{{"format": {_FORMAT}, "digest": "'.encode()
"""What each line begins with."""
_HOW_IT_COMES = ("stream", "stream_options")
_LONGEST_SAID = 80
_ALIKE = 3
"""As few fields may differ for a request to be called near."""

_log = logging.getLogger(__name__)


@frozen
class Asked:
    """A request without what differs from one caller to the next."""

    method: str
    path: str
    body: Mapping[str, Any]

    @classmethod
    def of(cls, method: str, path: str, content: bytes) -> Asked:
        """A request as it is sent; ``path`` begins after the base URL."""
        body = json.loads(content) if content else {}
        return cls(method, path, {name: body[name] for name in body if name not in _HOW_IT_COMES})

    @property
    def digest(self) -> str:
        """What it is found by."""
        text = json.dumps([self.method, self.path, self.body], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def said(self) -> str:
        """The beginning of what was said last."""
        messages = self.body.get("messages") or [{"content": self.body.get("prompt", "")}]
        text = " ".join(str(messages[-1].get("content")).split())
        return text if len(text) <= _LONGEST_SAID else f"{text[:_LONGEST_SAID]}…"

    def differing(self, other: Asked) -> Sequence[str]:
        """The fields in which another request is not the same."""
        names = {*self.body, *other.body}
        return sorted(name for name in names if self.body.get(name) != other.body.get(name))


@frozen
class Answer:
    """What came back; ``pauses_ms`` are the times before each piece."""

    status: int
    content_type: str
    pieces: Sequence[bytes]
    pauses_ms: Sequence[float]


class Recorder:
    """Writes a recording. Safe for threads, and for several processes.

    Arguments:
        redactor: knows the keys of the upstream.
    """

    def __init__(self, path: Path, redactor: Redactor) -> None:
        self._path = path
        self._redactor = redactor
        self._lock = threading.Lock()

    def require_writable(self) -> None:
        """Raises UpstreamError if nothing can be recorded: better before a call is paid for than after it."""
        try:
            self._append(b"")
        except OSError as error:
            raise UpstreamError(
                "The answers of %(upstream)s cannot be recorded in %(path)s: %(reason)s. Name another file, or leave "
                "record out of its settings.",
                path=str(self._path.absolute()),
                reason=error.strerror,
            ) from None

    def add(self, asked: Asked, answer: Answer) -> None:
        """Record one exchange. What cannot be written is told in the log: the answer itself is good."""
        line = self._line(asked, answer)
        try:
            try:
                written = json.dumps(line, ensure_ascii=False).encode()
            except UnicodeEncodeError:
                written = json.dumps(line).encode()
            self._append(written + b"\n")
        except OSError as error:
            _log.warning("An answer could not be recorded in %s: %s", self._path, error.strerror)

    def _append(self, line: bytes) -> None:
        with self._lock:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(self._path, "ab+", opener=_for_nobody_else) as file:
                if line and _ends_within_line(file):
                    line = b"\n" + line
                file.write(line)

    def _line(self, asked: Asked, answer: Answer) -> dict[str, Any]:
        request = {"method": asked.method, "path": asked.path, "body": asked.body}
        return {
            "format": _FORMAT,
            "digest": asked.digest,
            "request": json.loads(self._redactor.redact(json.dumps(request))),
            "status": answer.status,
            "content_type": answer.content_type,
            **self._content(answer),
        }

    def _content(self, answer: Answer) -> dict[str, Any]:
        whole = b"".join(answer.pieces)
        total_ms = [round(sum(answer.pauses_ms), 1)]
        try:
            pieces = list(codecs.iterdecode(answer.pieces, "utf-8"))
        except UnicodeDecodeError:
            clean = self._redactor.redact(whole.decode("latin-1")).encode("latin-1")
            return {"pauses_ms": total_ms, "base64": base64.b64encode(clean).decode()}
        text = "".join(pieces)
        clean_text = self._redactor.redact(text)
        if clean_text != text or len(pieces) != len(answer.pauses_ms):
            return {"pauses_ms": total_ms, "pieces": [clean_text]}
        return {"pauses_ms": [round(pause, 1) for pause in answer.pauses_ms], "pieces": pieces}


def _ends_within_line(file: BinaryIO) -> bool:
    """Whether a file ends with half a line, as a process leaves it that was killed while it wrote."""
    if file.seek(0, os.SEEK_END) == 0:
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"


def _for_nobody_else(path: str, flags: int) -> int:
    """Opens a file that holds what people said: nobody else on this computer may read it."""
    return os.open(path, flags, 0o600)


class Recording:
    """A recording to be played back. Safe for threads.

    Raises UpstreamError for a file that cannot be read or is none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._known: dict[str, Asked] = {}
        self._answers: dict[str, list[Answer]] = defaultdict(list)
        self._turns: dict[str, int] = defaultdict(int)
        for asked, answer in _read(path):
            self._known[asked.digest] = asked
            self._answers[asked.digest].append(answer)

    @property
    def models(self) -> Sequence[str]:
        """The models that were asked for, in the order of the file."""
        models = (asked.body.get("model") for asked in self._known.values())
        return list(dict.fromkeys(model for model in models if isinstance(model, str)))

    def answer(self, asked: Asked) -> Answer:
        """What was answered. One who asks several times gets the recorded answers in turn, and then the first again.

        Raises UpstreamRefusedError for a request that was not recorded.
        """
        digest = asked.digest
        with self._lock:
            answers = self._answers.get(digest)
            if answers:
                turn = self._turns[digest]
                self._turns[digest] = turn + 1
                return answers[turn % len(answers)]
        raise self._missing(asked)

    def has(self, asked: Asked) -> bool:
        """Whether a request was recorded."""
        return asked.digest in self._answers

    def _missing(self, asked: Asked) -> UpstreamRefusedError:
        facts = {"path": str(self._path), "model": asked.body.get("model", ""), "said": asked.said}
        alike = (known for known in self._known.values() if known.path == asked.path)
        near = min(map(asked.differing, alike), key=len, default=())
        if 0 < len(near) <= _ALIKE:
            return UpstreamRefusedError(
                "%(path)s holds no answer to this request (%(model)s: “%(said)s”). The nearest one that was recorded "
                "differs in: %(fields)s. Record it, with record in place of playback.",
                fields=", ".join(near),
                **facts,
            )
        return UpstreamRefusedError(
            "%(path)s holds no answer to this request (%(model)s: “%(said)s”). Record it, with record in place of "
            "playback.",
            **facts,
        )


def _read(path: Path) -> Iterator[tuple[Asked, Answer]]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise UpstreamError(
            "The recording %(path)s cannot be read: %(reason)s. Record it first, or correct playback in the settings.",
            # The whole of it: whoever looks for the file beside rolebook.yaml sees where it was looked for.
            path=str(path.absolute()),
            reason=error.strerror,
        ) from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield _parsed(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError):
                if _is_half(line):
                    _log.warning(
                        "Line %d of the recording %s is left out: whoever wrote it was interrupted.",
                        number,
                        path,
                    )
                    continue
                raise UpstreamError(
                    "Line %(number)d of the recording %(path)s is none that Rolebook has written. Remove it, or "
                    "record anew.",
                    path=str(path),
                    number=number,
                ) from None


def _is_half(line: bytes) -> bool:
    """Whether a line that cannot be read is the beginning of one of ours."""
    try:
        json.loads(line)
    except ValueError:
        return line.startswith(_BEGIN) or _BEGIN.startswith(line)
    return False


def _parsed(line: Mapping[str, Any]) -> tuple[Asked, Answer]:
    request = line["request"]
    asked = Asked(request["method"], request["path"], dict(request["body"]))
    if "base64" in line:
        pieces = [base64.b64decode(line["base64"], validate=True)]
    else:
        pieces = [piece.encode() for piece in line["pieces"]]
    pauses_ms = [float(pause) for pause in line["pauses_ms"]]
    if len(pauses_ms) != len(pieces):
        raise ValueError
    return asked, Answer(int(line["status"]), str(line["content_type"]), pieces, pauses_ms)
