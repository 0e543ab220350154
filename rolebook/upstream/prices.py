"""What a completion cost: by the user's own prices, else as the server says, else by genai-prices, offline."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rolebook.core.completion import Usage
from rolebook.core.errors import SettingError
from rolebook.upstream.address import is_loopback

_PRICES = ("input", "output", "cached")


class PriceTable:
    """Prices in US dollars for a million tokens.

    Arguments:
        own: ``{model: {"input": 0.15, "output": 0.6}}``, with ``cached`` for prompt tokens that the upstream had in
            its cache (else they cost what the others do). These win over the public list.

    Raises SettingError for a table that is none.
    """

    def __init__(self, own: Mapping[str, Mapping[str, float]] | None = None) -> None:
        self._own = {model: _checked(model, prices) for model, prices in (own or {}).items()}

    def cost(
        self,
        usage: Usage,
        *,
        model: str,
        requested: str = "",
        base_url: str = "",
        reported: float | None = None,
    ) -> float | None:
        """US dollars, or None where usage or price are not known: unknown is not free.

        Arguments:
            model: the model that answered; ``requested``: the one asked for, if the first has no price.
            base_url: of the upstream. The public list does not count on this computer, and when it is empty.
            reported: what the upstream itself says that it cost.
        """
        prompt, completion = usage.prompt_tokens, usage.completion_tokens
        if prompt is None or completion is None:
            return reported
        completion += _thought_beside(usage, prompt, completion)
        cached = min(usage.cached_tokens or 0, prompt)
        for name in filter(None, (model, requested)):
            if name in self._own:
                prices = self._own[name]
                fresh = prompt - cached
                cached_price = prices.get("cached", prices["input"])
                total = (
                    fresh * prices["input"] + cached * cached_price + completion * prices["output"]
                )
                return total / 1_000_000
        if reported is not None or not base_url or is_loopback(base_url):
            return reported
        names = dict.fromkeys(filter(None, (model, requested)))
        costs = (_listed_cost(name, base_url, (prompt, cached, completion)) for name in names)
        return next((cost for cost in costs if cost is not None), None)


def _thought_beside(usage: Usage, prompt: int, completion: int) -> int:
    """Tokens of reasoning that a server counts in the total alone, as xAI and Gemini do: they are output like any."""
    beside = max(0, (usage.total_tokens or 0) - prompt - completion)
    return beside if usage.reasoning_tokens is None else min(beside, usage.reasoning_tokens)


def _checked(model: str, prices: Any) -> dict[str, float]:
    is_table = isinstance(prices, Mapping) and {"input", "output"} <= prices.keys() <= set(_PRICES)
    if not is_table or not all(_is_price(price) for price in prices.values()):
        raise SettingError(
            "The prices of the model %(model)s must be US dollars for a million tokens, as in "
            "{input: 0.15, output: 0.6}, got %(value)s.",
            model=model,
            value=repr(prices)[:200],
        )
    return {name: float(price) for name, price in prices.items()}


def _is_price(price: Any) -> bool:
    return (
        isinstance(price, int | float)
        and not isinstance(price, bool)
        and math.isfinite(price)
        and price >= 0
    )


def _listed_cost(model: str, base_url: str, tokens: tuple[int, int, int]) -> float | None:
    import genai_prices

    prompt, cached, completion = tokens
    usage = genai_prices.Usage(
        input_tokens=prompt, cache_read_tokens=cached, output_tokens=completion
    )
    try:
        total = genai_prices.calc_price(usage, model, provider_api_url=base_url).total_price
    except (LookupError, ValueError):
        return None
    # A price of nothing for some tokens is a gap in the list: what is free there is named so by its provider.
    return float(total) if total or model.endswith(":free") else None
