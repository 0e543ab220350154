from typing import Any

import pytest

from rolebook.core.completion import Usage
from rolebook.core.errors import SettingError
from rolebook.upstream.prices import PriceTable

OPENAI = "https://api.openai.com/v1"
MILLION = Usage(1_000_000, 1_000_000, 2_000_000)


def test_public_price_is_known_offline() -> None:
    assert PriceTable().cost(MILLION, model="gpt-4o-mini", base_url=OPENAI) == pytest.approx(0.75)


def test_model_that_answered_may_be_less_known_than_the_one_asked_for() -> None:
    cost = PriceTable().cost(
        MILLION, model="my-deployment", requested="gpt-4o-mini", base_url=OPENAI
    )

    assert cost == pytest.approx(0.75)


def test_cached_tokens_cost_less() -> None:
    half_cached = Usage(1_000_000, 0, 1_000_000, cached_tokens=500_000)

    cost = PriceTable().cost(half_cached, model="gpt-4o-mini", base_url=OPENAI)

    assert cost is not None
    assert 0 < cost < 0.15


@pytest.mark.parametrize(
    ("usage", "output"),
    [
        # xAI: 32 + 9 + 94.
        (Usage(32, 9, 135, reasoning_tokens=94), 103),
        # Gemini tells the total alone.
        (Usage(9, 37, 660), 651),
        # OpenAI: what was thought is part of the completion.
        (Usage(32, 103, 135, reasoning_tokens=94), 103),
        # What else a total has more is no reasoning.
        (Usage(32, 9, 135, reasoning_tokens=4), 13),
        (Usage(32, 9, 135, reasoning_tokens=0), 9),
        (Usage(32, 9, None, reasoning_tokens=94), 9),
        (Usage(32, 9, 20), 9),
    ],
)
def test_reasoning_that_only_the_total_counts_costs_as_output_does(
    usage: Usage, output: int
) -> None:
    table = PriceTable({"m": {"input": 0, "output": 1_000_000}})

    assert table.cost(usage, model="m") == output


@pytest.mark.parametrize(
    ("usage", "model", "base_url"),
    [
        (Usage(), "gpt-4o-mini", OPENAI),
        (Usage(10, None, 10), "gpt-4o-mini", OPENAI),
        (MILLION, "no-such-model", OPENAI),
        (MILLION, "", OPENAI),
        (MILLION, "gpt-4o-mini", "https://unknown.example/v1"),
        (MILLION, "gpt-4o-mini", "http://127.0.0.1:8000/v1"),
        (MILLION, "rehearsal", "http://rehearsal.invalid/v1"),
        (MILLION, "gpt-4o-mini", ""),
    ],
)
def test_unknown_is_not_free(usage: Usage, model: str, base_url: str) -> None:
    assert PriceTable().cost(usage, model=model, base_url=base_url) is None


def test_own_table_wins_everywhere() -> None:
    table = PriceTable(
        {"gpt-4o-mini": {"input": 1, "output": 2}, "llama3": {"input": 0, "output": 0}}
    )

    assert table.cost(MILLION, model="gpt-4o-mini", base_url=OPENAI) == 3
    assert table.cost(MILLION, model="llama3", base_url="http://localhost/v1") == 0
    assert table.cost(MILLION, model="other", requested="gpt-4o-mini") == 3


@pytest.mark.parametrize("base_url", ["", OPENAI, "http://127.0.0.1:8012/v1"])
def test_figure_of_the_server_wins_over_the_public_list_and_the_own_table_over_both(
    base_url: str,
) -> None:
    table = PriceTable({"mine": {"input": 1, "output": 2}})

    assert table.cost(MILLION, model="gpt-4o-mini", base_url=base_url, reported=0.5) == 0.5
    assert table.cost(Usage(), model="gpt-4o-mini", base_url=base_url, reported=0.5) == 0.5
    assert table.cost(MILLION, model="mine", base_url=base_url, reported=0.5) == 3


def test_own_table_may_price_cached_tokens() -> None:
    table = PriceTable({"m": {"input": 2, "output": 0, "cached": 1}})

    assert table.cost(Usage(1_000_000, 0, 1_000_000, cached_tokens=500_000), model="m") == 1.5


@pytest.mark.parametrize(
    "prices",
    [
        7,
        {},
        {"input": 1},
        {"input": 1, "output": "two"},
        {"input": -1, "output": 1},
        {"input": 1, "output": float("nan")},
        {"input": True, "output": 1},
        {"input": 1, "output": 1, "per": "k"},
    ],
)
def test_price_that_is_none_is_a_setting_error(prices: Any) -> None:
    with pytest.raises(SettingError, match="model-x"):
        PriceTable({"model-x": prices})
