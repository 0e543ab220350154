"""Which rows of the log can be read: other tools may write to its file, and it may be damaged.

Indexes of the schema hold the rows that cannot, which are hardly ever any, so that looking for them takes no time
however long a comparison is. They are used where a query says the same as they do: whoever changes a condition makes
them anew.
"""

from __future__ import annotations

from rolebook.core.session import TurnStatus


def is_json(column: str, kind: str, **keys: str) -> str:
    """Whether a column has nothing, or JSON of a kind with these keys of their kinds: as a condition."""
    kinds = [f"json_type({column}) = '{kind}'"]
    kinds += [f"json_type({column}, '$.{key}') IS '{each}'" for key, each in keys.items()]
    return (
        f"CASE WHEN {column} IS NULL THEN 1 WHEN json_valid({column}) "
        f"THEN {' AND '.join(kinds)} ELSE 0 END"
    )


def _are_numbers(*columns: str) -> str:
    """Whether columns have nothing, or numbers: all of these come before every text."""
    return " AND ".join(f"({column} >= '') IS NOT 1" for column in columns)


def _are(kind: str, *columns: str) -> str:
    """Whether what stands in columns is of a type, one that SQLite has."""
    return " AND ".join(f"typeof({column}) = '{kind}'" for column in columns)


def is_unreadable_turn(table: str = "") -> str:
    """A condition on rows of ``turns``.

    Arguments:
        table: ``turns.`` where a query names other tables as well.
    """
    statuses = ", ".join(f"'{status}'" for status in TurnStatus)
    integers = ("position", "attempt", "is_current", "is_streamed", "dropped_turns", "chosen")
    numbers = (
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "cached_tokens",
        "reasoning_tokens",
        "cost",
        "time_to_first_token_ms",
        "duration_ms",
    )
    conditions = (
        f"{table}status IN ({statuses})",
        _are("text", *(f"{table}{column}" for column in ("id", "created_at", "endpoint"))),
        f"typeof({table}via) IN ('text', 'null')",
        f"{table}created_at GLOB '[12][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T*'",
        _are("integer", *(f"{table}{column}" for column in integers)),
        _are_numbers(*(f"{table}{column}" for column in numbers)),
        is_json(f"{table}parameters_requested", "object"),
        is_json(f"{table}parameters_sent", "object"),
        is_json(f"{table}adaptations", "array"),
        # Of what is in a list a condition of an index can see the first only.
        f"CASE WHEN json_valid({table}adaptations) THEN json_array_length({table}adaptations) = 0 "
        f"OR json_type({table}adaptations, '$[0].message') IS 'text' ELSE 1 END",
        is_json(f"{table}error", "object", code="text", message="text"),
        is_json(f"{table}choices", "array"),
        f"{table}messages GLOB '[[]*]' AND {table}messages NOT GLOB '*[^][0-9,]*'",
    )
    return f"NOT ({' AND '.join(conditions)})"


#: The numbers of the turns that cannot be read: found by their index, so that no other row is looked at.
UNREADABLE_TURNS = f"(SELECT number FROM main.turns WHERE {is_unreadable_turn()})"


def is_unreadable_result(table: str = "") -> str:
    """A condition on rows of ``check_results``, with ``check_results.`` as for turns."""
    said = is_json(f"{table}said", "object", message="text", parameters="object")
    return f"NOT ({said} AND {_are_numbers(f'{table}has_passed')})"
