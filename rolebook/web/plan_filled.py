"""The form of a plan, filled in with what a comparison file or a session says."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

from rolebook.core.comparison_spec import ComparisonSpec, InputSpec, VariantSpec
from rolebook.core.persona import parse_parameters
from rolebook.library.yaml_text import dump_yaml
from rolebook.web.plan_form import (
    CHECK_KINDS,
    CONTEXT,
    DESCRIBED,
    JUDGE,
    LIST_CHECKS,
    Fields,
    PlanForm,
    filled,
    identity,
    is_line,
)
from rolebook.web.submission import SAMPLING, VARIABLE, lines_of

#: An input that says no more than this has a field in the form.
_PLAIN = {"input", "session", "history", "persona", "last"}


def form_of_spec(spec: ComparisonSpec) -> PlanForm:
    """A form filled in with a comparison, as a file describes it."""
    lines, rows, sessions, last = _placed(spec.inputs)
    judge, context = spec.judge, spec.context
    return PlanForm(
        filled(
            {
                "question": spec.question,
                "lines": "\n".join(entry.input for entry in lines),
                "rows": json.dumps([_data_of(row) for row in rows], ensure_ascii=False)
                if rows
                else "",
                "history": sessions[0].history if sessions else "",
                "last-of": last.persona if last else "",
                "last": str(last.last) if last else "",
                "repeats": str(spec.repeats),
                "concurrency": str(spec.concurrency),
                "recorded": "1" if spec.recorded else "",
                "unstreamed": "" if spec.stream else "1",
                **{f"judge-{name}": getattr(judge, name) for name in JUDGE},
                **{f"context-{name}": _text(getattr(context, name)) for name in CONTEXT if context},
            }
        ),
        variants=tuple(map(fields_of_variant, spec.variants)),
        checks=tuple(_check_fields(check.as_data()) for check in spec.checks),
        sessions=tuple(entry.session for entry in sessions),
    )


def _placed(
    inputs: Sequence[InputSpec],
) -> tuple[list[InputSpec], list[InputSpec], list[InputSpec], InputSpec | None]:
    """Inputs by their place in the form: lines, rows, sessions, the last ones of a persona.

    The order is kept, so that the grid is the file. What stands before others that come first in the form travels with
    the inputs of files, as does what has no field of its own.
    """
    rows = list(inputs)
    lines = list(takewhile(_is_typed, rows))
    del rows[: len(lines)]
    last = rows.pop() if rows and rows[-1].persona and _is_plain(rows[-1]) else None
    sessions: list[InputSpec] = []
    while rows and rows[-1].session and _is_plain(rows[-1]):
        if sessions and rows[-1].history != sessions[-1].history:
            break
        sessions.append(rows.pop())
    return lines, rows, sessions[::-1], last


def _is_plain(entry: InputSpec) -> bool:
    return _data_of(entry).keys() <= _PLAIN


def _is_typed(entry: InputSpec) -> bool:
    return _is_plain(entry) and bool(entry.input.strip()) and is_line(entry.input)


def _data_of(entry: InputSpec) -> dict[str, Any]:
    return entry.model_dump(mode="json", exclude_defaults=True)


def _text(value: object) -> str:
    """A value as it is typed."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _as_more(value: object) -> str:
    """The value of a request field as it is typed: a text in quotes where it would be read as something else."""
    if isinstance(value, str) and not (
        is_line(value) and value == value.strip() and parse_parameters({"x": value}) == {"x": value}
    ):
        return json.dumps(value, ensure_ascii=False)
    return _text(value)


def fields_of_variant(given: VariantSpec) -> Fields:
    """A variant in the fields of the form."""
    sampling = given.sampling.as_parameters()
    changes = dict(given.changes)
    system, template = changes.pop("system", ""), changes.pop("template", "")
    fields = {
        "persona": given.persona or DESCRIBED,
        "system": given.system or str(system),
        "template": str(template),
        "changes": dump_yaml(changes) if changes else "",
        **{name: getattr(given, name) for name in ("name", "revision", "model", "upstream")},
        **{VARIABLE + name: _text(value) for name, value in given.variables.items()},
        **{
            SAMPLING + name: lines_of(value) if name == "stop" else _text(value)
            for name, value in sampling.items()
        },
        "more": "\n".join(f"{name}={_as_more(value)}" for name, value in given.request.items()),
    }
    return {**filled(fields), "shown": identity(fields)}


def _check_fields(data: Mapping[str, Any]) -> Fields:
    kind = next(kind for kind in CHECK_KINDS if kind in data)
    extra = {name: value for name, value in data.items() if name != kind}
    value = data[kind]
    if kind == "similarity":
        extra |= filled({"to": value.get("to", "")})
        value = value["at_least"]
    if value is True:
        value = ""
    text = (
        lines_of([value] if isinstance(value, str) else value)
        if kind in LIST_CHECKS
        else _text(value)
    )
    return {"kind": kind, "value": text, "extra": json.dumps(extra) if extra else ""}
