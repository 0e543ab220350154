"""The exact reply of an upstream in little room: nine tenths of it are the same every time, or stand in the turn
already.

It is kept as JSON in raw DEFLATE with a preset dictionary: a typical reply, then the texts of the turn's own answers.
What the dictionary holds costs a few bytes, so no text is kept twice, and what comes out is what went in.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from rolebook.core.completion import Choice
from rolebook.storage.encoding import decode_json, encode_json

# Must never change: what was written with it can only be read with it.
_TYPICAL_REPLY = (
    b'{"id":"chatcmpl-","object":"chat.completion","created":17,"model":"","system_fingerprint":"fp_",'
    b'"service_tier":"default","provider":"","choices":[{"index":0,"message":{"role":"assistant","content":"",'
    b'"refusal":null,"reasoning_content":"","tool_calls":[{"index":0,"id":"call_","type":"function","function":'
    b'{"name":"","arguments":"{}"}}],"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":'
    b'{"prompt_tokens":1,"completion_tokens":1,"total_tokens":1,"cost":0.000,"prompt_tokens_details":'
    b'{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,'
    b'"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}'
)
_LARGEST_WINDOW = -15


def encode_reply(reply: Mapping[str, Any], choices: Sequence[Choice]) -> bytes | None:
    """The reply in little room; nothing for an empty one."""
    if not reply:
        return None
    encoded, dictionary = encode_json(reply).encode(), _dictionary(choices)
    # A window no larger than what there is to look back at takes a third of the time.
    window = min(15, max(10, (len(dictionary) + len(encoded)).bit_length()))
    packer = zlib.compressobj(6, zlib.DEFLATED, -window, 8, zlib.Z_DEFAULT_STRATEGY, dictionary)
    return packer.compress(encoded) + packer.flush()


def decode_reply(stored: bytes | None, choices: Sequence[Choice]) -> Mapping[str, Any]:
    """The reply again, given the very choices that it was encoded with.

    With others nobody can read it any more: then it is empty, as where something else than a reply is stored.
    """
    if stored is None:
        return {}
    unpacker = zlib.decompressobj(_LARGEST_WINDOW, _dictionary(choices))
    try:
        reply = decode_json(unpacker.decompress(stored).decode(), {})
    except (TypeError, ValueError, zlib.error):
        return {}
    return reply if isinstance(reply, dict) else {}


def _dictionary(choices: Sequence[Choice]) -> bytes:
    texts = [[choice.reasoning, choice.refusal, choice.text] for choice in choices]
    return encode_json(texts).encode() + _TYPICAL_REPLY
