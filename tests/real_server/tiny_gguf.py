"""Writes a model of half a megabyte for llama.cpp that knows nothing: random weights, a vocabulary of bytes.

Runs where the packages numpy and gguf are, not in our environment:

    python tests/real_server/tiny_gguf.py FILE.gguf [lenient|strict]

The chat template of ``strict`` refuses system messages and roles that do not alternate. What the model says is noise
of ASCII and some Chinese, and it never stops by itself: bytes of broken characters, which the server would hold back
until they make sense, and the end of the text get a bias that rules them out.
"""

from __future__ import annotations

import sys

import gguf  # type: ignore[import-not-found]
import numpy as np  # type: ignore[import-not-found]

LENIENT_TEMPLATE = """\
{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}
{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"""

STRICT_TEMPLATE = """\
{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}\
{% for message in messages %}\
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}\
{% endif %}{{ message['role'] }}: {{ message['content'] }}
{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"""

_WIDTH, _HIDDEN, _LAYERS, _HEADS = 64, 128, 2, 4
_PRINTABLE = range(3 + 0x20, 3 + 0x7F)
"""The tokens of printable ASCII characters, after the three control tokens and the bytes before them."""
_WORDS = ("▁the", "▁a", "▁and", "▁ferry", "▁time", "渡船", "老师", "的", "是", "。")


def main() -> None:
    """Write the file that the command line names."""
    template = STRICT_TEMPLATE if sys.argv[2:] == ["strict"] else LENIENT_TEMPLATE
    writer = gguf.GGUFWriter(sys.argv[1], "llama")
    writer.add_name("tiny")
    writer.add_context_length(32768)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(_LAYERS)
    writer.add_feed_forward_length(_HIDDEN)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(_WIDTH // _HEADS)
    writer.add_chat_template(template)
    _add_weights(writer, _add_vocabulary(writer))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_vocabulary(writer: gguf.GGUFWriter) -> int:
    """Three control tokens, every byte, and a few words; returns how many."""
    kinds = gguf.TokenType
    entries = [("<unk>", kinds.UNKNOWN), ("<s>", kinds.CONTROL), ("</s>", kinds.CONTROL)]
    entries += [(f"<0x{byte:02X}>", kinds.BYTE) for byte in range(256)]
    entries += [(word, kinds.NORMAL) for word in _WORDS]
    writer.add_tokenizer_model("llama")
    writer.add_token_list([token.encode() for token, _ in entries])
    writer.add_token_scores([0.0] * len(entries))
    writer.add_token_types([kind for _, kind in entries])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    return len(entries)


def _add_weights(writer: gguf.GGUFWriter, vocabulary: int) -> None:
    random = np.random.default_rng(20)
    shapes = {"token_embd": (vocabulary, _WIDTH), "output": (vocabulary, _WIDTH)}
    for layer in range(_LAYERS):
        block = f"blk.{layer}"
        shapes |= {f"{block}.attn_{part}": (_WIDTH, _WIDTH) for part in ("q", "k", "v", "output")}
        shapes |= {f"{block}.ffn_{part}": (_HIDDEN, _WIDTH) for part in ("gate", "up")}
        shapes[f"{block}.ffn_down"] = (_WIDTH, _HIDDEN)
    weights = {
        name: random.normal(0.0, 0.05, shape).astype(np.float32) for name, shape in shapes.items()
    }
    _add_bias(weights)
    norms = [f"blk.{layer}.{part}_norm" for layer in range(_LAYERS) for part in ("attn", "ffn")]
    weights |= {norm: np.ones(_WIDTH, np.float32) for norm in (*norms, "output_norm")}
    for name, values in weights.items():
        writer.add_tensor(f"{name}.weight", values)


def _add_bias(weights: dict[str, np.ndarray]) -> None:
    """Rule tokens out. A Llama has no bias, so the first dimension is made the same everywhere and serves as one."""
    weights["token_embd"][:, 0] = 3.0
    for name, values in weights.items():
        if name.endswith(("attn_output", "ffn_down")):
            values[0, :] = 0.0
    weights["output"][:, 0] = 0.0
    weights["output"][: _PRINTABLE.start, 0] = -10.0
    weights["output"][_PRINTABLE.stop : 3 + 256, 0] = -10.0


if __name__ == "__main__":
    main()
