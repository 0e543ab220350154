"""Request fields that a persona fixes, beside those that a program gives: what is fixed wins, by whatever name.

Servers take one thing under several names, and some take it from inside an object, as Ollama does from ``options``. A
limit that holds under one of them must not be passed by under another.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from rolebook.core.errors import InputError, RightError

#: What the OpenAI API itself takes, which is more than most servers behind us do.
MOST_CHOICES = 128
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
    " guided_json guided_regex guided_choice guided_grammar regex ebnf structural_tag",
)
#: Objects in which servers look for parameters. All others hold what a model is told or has to keep to, such as the
#: properties of a schema, or another thing by a name that is here too, such as how long it may reason.
_HOLDERS = "options extra google generation_config parameters sampling_params chat_template_kwargs"
#: Fields by which some servers would put other words around the messages, or in the place of the persona's own.
_FRAMING = (
    "chat_template chat_template_str instruction_template instruction_template_str"
    " system system_prompt system_message system_instruction system_instructions model_identity"
    " preamble preamble_override chat_instruct_command character context"
)
#: Fields by which an answer costs another price than the list has for its model, or something beside that.
_PRICING = (
    "service_tier speed inference_geo models fallbacks route provider plugins modalities"
    " web_search_options search_parameters"
)
#: What such a field says where it changes nothing, and the tools that cost nothing but their tokens. Some that
#: servers run themselves have no type, such as Gemini's ``googleSearch`` behind LiteLLM.
_USUAL: tuple[Any, ...] = (None, "auto", "default", [], ["text"])
_OWN_TOOLS = ("function", "custom")
#: Nobody looks for a parameter that lies deeper.
_DEEPEST = 8


def filled_up(fixed: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What is fixed, and beside it what is given, but for what says the same by another name or inside an object."""
    return {**beside(fixed, given), **fixed}


def beside(fixed: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What is given, but for what is fixed, by whatever name and also inside an object."""
    return _without({*_plain_names(fixed)}, given)


def answer_wanted(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Those fields that say what an answer may be: the tools that it may ask for, and the form that it must have."""
    return {name: value for name, value in fields.items() if plain(name) in _OF_ANSWERS}


def counts_in(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each field, with its name, that says how many answers there are to be, or to be thought of."""
    return ((name, value) for name, value in _fields_of(fields) if plain(name) in _COUNTS)


def require_counts(fields: Mapping[str, Any]) -> None:
    """Raises InputError for a number of answers that is none, or too many."""
    for name, count in counts_in(fields):
        if count is not None and not (type(count) is int and 1 <= count <= MOST_CHOICES):
            raise InputError(
                "%(key)s must be a whole number from 1 to %(limit)d.",
                key=name[:80],
                limit=MOST_CHOICES,
            )


def require_no_framing(fields: Mapping[str, Any]) -> None:
    """Raises InputError for a field that would put other words around what a persona says.

    It is looked for wherever servers do: vLLM, for one, takes a ``chat_template`` from ``chat_template_kwargs``.
    """
    framing = next((name for name, _ in _fields_of(fields) if plain(name) in _PLAIN_FRAMING), None)
    if framing is not None:
        raise InputError("%(key)s cannot be set by a request.", key=framing[:80])


def require_usual_price(fields: Mapping[str, Any]) -> None:
    """Raises RightError for a field by which an answer would cost something else than the price of its model says."""
    for name, value in _fields_of(fields):
        is_pricing = plain(name) in _PLAIN_PRICING and value not in _USUAL
        if is_pricing or (plain(name) == "tools" and _has_paid_tools(value)):
            raise RightError(
                "%(key)s may change what an answer costs, and this API key has a budget in US dollars. Leave it out.",
                key=name[:80],
            )


def _has_paid_tools(tools: Any) -> bool:
    """Whether tools are among these that the server runs itself, as it does a search."""
    given = tools if isinstance(tools, list) else []
    return any(isinstance(tool, Mapping) and tool.get("type") not in _OWN_TOOLS for tool in given)


def answers_of(fields: Mapping[str, Any]) -> int:
    """How many answers these fields ask for, one at least."""
    counts = (count for _, count in counts_in(fields))
    return max([1, *(count for count in counts if type(count) is int)])


def plain(name: str) -> str:
    """A name as ``max_tokens``, ``maxTokens`` and ``max-tokens`` have it in common."""
    return name.casefold().replace("_", "").replace("-", "")


_SAME: Mapping[str, frozenset[str]] = {
    name: names
    for things in _THINGS
    for names in [frozenset(map(plain, things.split()))]
    for name in names
}
_OF_ANSWERS = frozenset({"paralleltoolcalls"}).union(
    *(_SAME[plain(name)] for name in ("tools", "tool_choice", "response_format"))
)
_COUNTS = _SAME["n"] | {"bestof"}
_PLAIN_FRAMING = frozenset(map(plain, _FRAMING.split()))
_PLAIN_PRICING = frozenset(map(plain, _PRICING.split()))
_PLAIN_HOLDERS = frozenset(map(plain, _HOLDERS.split()))


def _plain_names(fixed: Mapping[str, Any]) -> Iterator[str]:
    """Every name of everything that is fixed; what is in no line of the table, at the top, by its own name."""
    for name in fixed:
        yield plain(name)
    for name, _ in _fields_of(fixed):
        yield from _SAME.get(plain(name), ())


def _fields_of(fields: Mapping[str, Any], depth: int = 0) -> Iterator[tuple[str, Any]]:
    """The fields with those inside of objects where servers look for them."""
    for name, value in fields.items():
        yield name, value
        if _is_holder(name, value) and depth < _DEEPEST:
            yield from _fields_of(value, depth + 1)


def _without(taken: Collection[str], fields: Mapping[str, Any], depth: int = 0) -> dict[str, Any]:
    """Fields but for those that go by one of these names, wherever servers look for them."""
    return {
        name: _without(taken, value, depth + 1)
        if _is_holder(name, value) and depth < _DEEPEST
        else value
        for name, value in fields.items()
        if plain(name) not in taken
    }


def _is_holder(name: str, value: Any) -> bool:
    return isinstance(value, Mapping) and plain(name) in _PLAIN_HOLDERS
