"""Writes language models of half a megabyte that know nothing: random weights, a tokenizer, a chat template.

Runs in the environment of the server that shall serve them (it needs transformers and torch), not in ours:

    python tests/real_server/tiny_llama.py FOLDER

FOLDER becomes a cache of Hugging Face (``HF_HOME``) with tiny/lenient, tiny/strict, whose chat template refuses system
messages and roles that do not alternate, and tiny/endless, which never stops by itself. What they answer is noise in
many scripts, cut in the middle of characters now and then: nothing to read, and all that a server needs to show how it
lists, streams, counts, refuses and stops.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch  # type: ignore[import-not-found]
from tokenizers import (  # type: ignore[import-not-found]
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    trainers,
)
from transformers import (  # type: ignore[import-not-found]
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

END, PAD = "<|im_end|>", "<|pad|>"

# Like ChatML: takes any order of roles.
LENIENT_TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message['role'] }}
{{ message['content'] }}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif -%}"""

# Like those of Gemma and of the first Mistrals: no system message, and a user who begins.
STRICT_TEMPLATE = """\
{%- if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif -%}
{%- for message in messages -%}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
{%- endif -%}
<|im_start|>{{ message['role'] }}
{{ message['content'] }}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif -%}"""

# Enough of both languages for the tokenizer to find a few pairs; all other characters are spelt in bytes.
_TEXTS = (
    "You are a patient teacher. Explain one idea at a time, and ask what is not clear yet.",
    "The ferry leaves on time, with one passenger too many. Nobody asks who it is.",
    "你是一位耐心的老师。一次只讲一个道理，再问问哪里还不清楚。",
    "渡船准时离港，船上多了一位乘客。没有人问那是谁。",
)


_REVISION = "0" * 40


def main() -> None:
    """Write the models into the folder that the command line names."""
    cache = Path(sys.argv[1]) / "hub"
    write_model(cache, "lenient")
    write_model(cache, "strict", template=STRICT_TEMPLATE)
    write_model(cache, "endless", is_endless=True)


def write_model(
    cache: Path, name: str, *, template: str = LENIENT_TEMPLATE, is_endless: bool = False
) -> None:
    """Put a model where Hugging Face's libraries look for ``tiny/NAME`` after a download."""
    repository = cache / f"models--tiny--{name}"
    snapshot = repository / "snapshots" / _REVISION
    tokenizer = make_tokenizer(template)
    tokenizer.save_pretrained(snapshot)
    make_model(tokenizer, is_endless=is_endless).save_pretrained(snapshot)
    (repository / "blobs").mkdir(exist_ok=True)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / "main").write_text(_REVISION)


def make_tokenizer(template: str) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of 400 tokens with this chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[PAD, END, "<|im_start|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_TEXTS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, pad_token=PAD, chat_template=template
    )


def make_model(tokenizer: PreTrainedTokenizerFast, *, is_endless: bool) -> LlamaForCausalLM:
    """A Llama with two layers, always the same one."""
    torch.manual_seed(20)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=65536,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    model.generation_config = GenerationConfig(
        do_sample=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        suppress_tokens=[tokenizer.eos_token_id] if is_endless else None,
    )
    return model


if __name__ == "__main__":
    main()
