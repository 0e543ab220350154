"""Request fields that a persona fixes, beside those that a program gives: what is fixed wins, by whatever name.

Servers take one thing under several names, and some take it from inside an object, as Ollama does from ``options``. A
limit that holds under one of them must not be passed by under another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

#: Each is one thing, by the names that it goes by with OpenAI, Ollama, llama.cpp, vLLM, Gemini and servers like them.
_THINGS = (
    "max_tokens max_completion_tokens max_output_tokens max_new_tokens max_gen_tokens max_gen_len max_length"
    " max_tokens_to_sample n_predict num_predict",
    "temperature temp dynatemp_range dynamic_temperature",
    "top_p",
    "stop stop_sequences stop_sequence stop_strings stopping_strings custom_stopping_strings stop_words",
    "seed random_seed sampler_seed rng_seed",
    "n n_cmpl num_return_sequences candidate_count",
    "presence_penalty",
    "frequency_penalty",
    "reasoning_effort reasoning reasoning_budget thinking thinking_config thinking_budget thinking_level"
    " thinking_budget_tokens think enable_thinking",
    "tools functions",
    "tool_choice function_call",
    "response_format format json_schema grammar structured_outputs response_schema response_mime_type"
    " guided_json guided_regex guided_choice guided_grammar",
)
#: In these stands what a model is told or may say, and no parameter.
_DATA = frozenset(
    [
        *("tools", "functions", "tool_choice", "function_call", "response_format", "logit_bias"),
        *("metadata", "prediction", "audio", "web_search_options"),
    ]
)
#: Nobody looks for a parameter that lies deeper.
_DEEPEST = 8


def filled_up(fixed: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What is fixed, and beside it what is given, but for what says the same under another name or inside an object."""
    taken = set(_plain_names(fixed))
    kept = {
        name: value if name in _DATA else _without(taken, value)
        for name, value in given.items()
        if _plain(name) not in taken
    }
    return {**kept, **fixed}


def counts_answers(name: str) -> bool:
    """Whether a field says how many answers there are to be, or to be thought of."""
    return _plain(name) in _COUNTS


def answers_of(fields: Mapping[str, Any]) -> int:
    """How many answers these fields ask for, one at least."""
    counts = [value for name, value in fields.items() if counts_answers(name)]
    return max([1, *(count for count in counts if type(count) is int)])


def _plain(name: str) -> str:
    """A name as ``max_tokens``, ``maxTokens`` and ``max-tokens`` have it in common."""
    return name.casefold().replace("_", "").replace("-", "")


_SAME: Mapping[str, frozenset[str]] = {
    name: names
    for things in _THINGS
    for names in [frozenset(map(_plain, things.split()))]
    for name in names
}


_COUNTS = _SAME["n"] | {"bestof"}


def _plain_names(fixed: Mapping[str, Any]) -> Iterator[str]:
    """Every name of everything that is fixed."""
    for name, value in fixed.items():
        yield from _SAME.get(_plain(name), {_plain(name)})
        if name not in _DATA:
            for inner in _names_inside(value):
                yield from _SAME.get(_plain(inner), ())


def _names_inside(value: Any, depth: int = 0) -> Iterator[str]:
    if isinstance(value, Mapping) and depth < _DEEPEST:
        for name, part in value.items():
            yield name
            yield from _names_inside(part, depth + 1)


def _without(taken: Iterable[str], value: Any, depth: int = 0) -> Any:
    """A value without what goes by one of these names in it."""
    if not isinstance(value, Mapping) or depth == _DEEPEST:
        return value
    return {
        name: _without(taken, part, depth + 1)
        for name, part in value.items()
        if _plain(name) not in taken
    }
