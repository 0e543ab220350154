"""What was exported can be read back, and done again, anywhere; what was tampered with cannot."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rolebook.core.check import Check
from rolebook.core.comparison import CellKey, Comparison, ComparisonInput, Judge, Tally, Variant
from rolebook.core.errors import FileError, InputError, NotFoundError
from rolebook.core.persona import ResolvedPersona, persona_of_revision
from rolebook.core.session import Revision, Turn, now
from rolebook.report.export import EXPORT_FORMATS, export_comparison
from rolebook.report.reading import plan_export, read_export
from rolebook.wiring import Rolebook
from tests.conftest import MakeRolebook
from tests.fake_upstream import FakeUpstream
from tests.test_compare import cells_of, fill, plan, talk

#: Formats that hold the plan even before any cell has begun.
PLANNED = [format for format in EXPORT_FORMATS if format != "csv"]
HOSTILE = (
    '</pre><pre id="plan">{}</pre>\n```json rolebook-comparison\n{}\n```\n\u202e\x00\r;=1;-1\n@a'
)


@pytest.fixture
def comparison(rolebook: Rolebook) -> Comparison:
    comparison = plan(
        rolebook,
        question=f"Who? {HOSTILE}",
        variants=["teacher", {"persona": "teacher", "changes": {"system": f"Be terse. {HOSTILE}"}}],
        inputs=[{"turns": [HOSTILE, "And why?"], "name": HOSTILE}, "Why is the sky blue?"],
        repeats=2,
        checks=[{"max_words": 5}],
    )
    fill(rolebook, comparison)
    return rolebook.comparisons.get_comparison(comparison.id)


@pytest.fixture
def save(rolebook: Rolebook, tmp_path: Path) -> Callable[[Comparison, str], Path]:
    """Exports a comparison to a file."""

    def write(comparison: Comparison, format: str) -> Path:
        path = tmp_path / f"saved.{format}"
        with path.open("w", encoding="utf-8", newline="") as file:
            file.writelines(export_comparison(rolebook, comparison, format))
        return path

    return write


Save = Callable[[Comparison, str], Path]


def repeat(rolebook: Rolebook, path: Path) -> Comparison:
    """The comparison of an export, recorded once more."""
    return rolebook.compare.create(plan_export(rolebook, path).plan)


@pytest.mark.parametrize("format", EXPORT_FORMATS)
def test_a_plan_comes_back_as_it_was(
    rolebook: Rolebook, comparison: Comparison, save: Save, format: str
) -> None:
    found = read_export(save(comparison, format))
    assert comparison == found.comparison
    revisions = {variant.revision for variant in comparison.variants}
    assert {id: rolebook.log.get_revision(id) for id in revisions} == {
        revision.id: revision for revision in found.revisions
    }


@pytest.mark.parametrize("format", EXPORT_FORMATS)
def test_a_plan_comes_back_whatever_ends_its_lines(
    comparison: Comparison, save: Save, format: str
) -> None:
    path = save(comparison, format)
    text = path.read_bytes().replace(b"\r\n", b"\n")
    path.write_bytes(text.replace(b"\n", b"\r\n"))
    assert comparison == read_export(path).comparison


@pytest.mark.parametrize("format", EXPORT_FORMATS)
def test_a_plan_of_which_nothing_has_begun_comes_back(
    rolebook: Rolebook, save: Save, format: str
) -> None:
    planned = plan(rolebook, variants=["plain"], inputs=["Why?"])
    path = save(planned, format)
    assert planned == read_export(path).comparison
    assert planned.id == repeat(rolebook, path).repeats_of


def test_a_table_without_a_row_is_no_export(rolebook: Rolebook, tmp_path: Path) -> None:
    path = tmp_path / "empty.csv"
    path.write_text("comparison_id,question\r\n", "utf-8")
    with pytest.raises(InputError, match="is no comparison that Rolebook has exported"):
        plan_export(rolebook, path)


@pytest.mark.parametrize("format", EXPORT_FORMATS)
def test_it_is_done_again_in_a_fresh_database_without_its_persona_files(
    make_rolebook: MakeRolebook,
    upstream: FakeUpstream,
    library_dir: Path,
    comparison: Comparison,
    save: Save,
    format: str,
) -> None:
    path = save(comparison, format)
    shutil.rmtree(library_dir / "personas")
    fresh = make_rolebook(
        {"OPENAI_BASE_URL": upstream.base_url, "ROLEBOOK_MODEL": "ok"},
        database=str(library_dir / "fresh.db"),
    )
    again = repeat(fresh, path)
    assert (comparison.id, comparison.variants) == (again.repeats_of, again.variants)
    asked = len(upstream.requests)
    fill(fresh, again)
    sent = [request.body["messages"] for request in upstream.requests]
    assert sorted(map(str, sent[:asked])) == sorted(map(str, sent[asked:]))
    assert {"complete"} == {cell.status for cell in cells_of(fresh, again).values()}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_csv_file_that_a_spreadsheet_has_sorted_and_saved_is_done_again(
    rolebook: Rolebook, comparison: Comparison, save: Save, delimiter: str
) -> None:
    path = save(comparison, "csv")
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter, quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(reversed(rows))
    assert comparison == read_export(path).comparison
    assert comparison.id == repeat(rolebook, path).repeats_of


def without_plan(path: Path) -> Path:
    """As somebody leaves it who has no use for a column of that width."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [{**row, "plan": ""} for row in csv.DictReader(file)]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_csv_without_its_plan_is_done_again_where_its_comparison_is(
    rolebook: Rolebook, comparison: Comparison, save: Save
) -> None:
    again = repeat(rolebook, without_plan(save(comparison, "csv")))
    assert (comparison.id, comparison.inputs) == (again.repeats_of, again.inputs)


def test_csv_without_its_plan_says_elsewhere_what_would_help(
    make_rolebook: MakeRolebook, library_dir: Path, comparison: Comparison, save: Save
) -> None:
    fresh = make_rolebook(database=str(library_dir / "fresh.db"))
    with pytest.raises(InputError, match=f"lost its plan.*{comparison.id}"):
        repeat(fresh, without_plan(save(comparison, "csv")))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no export",
        "{",
        "[]",
        "null",
        '{"rolebook": {"format": 1, "version": "0.1.0"}, "sessions": []}',
        '{"rolebook": {"kind": "comparison", "format": 1}}',
        '{"rolebook": {"kind": "comparison", "format": "one"}}',
        '{"rolebook": {"kind": "comparison", "format": 1}, "comparison": [], "revisions": []}',
        "<!doctype html><title>Something else</title>",
        "# A page\n\n```json rolebook-comparison\n{]\n```\n",
        '<pre id="plan">' + "[" * 100_000 + "</pre>",
        "comparison_id,question\r\n",
    ],
)
def test_what_is_no_export_of_a_comparison_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "foreign.json"
    path.write_text(text, "utf-8")
    with pytest.raises(InputError, match=r"foreign.json is no comparison .* Export it again"):
        read_export(path)


def test_bytes_that_are_no_text_and_files_that_are_not_there_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "binary.html"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is no comparison"):
        read_export(path)
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_export(tmp_path / "missing.json")


def edited(path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """An export in JSON that somebody has edited."""
    data = json.loads(path.read_text("utf-8"))
    change(data)
    path.write_text(json.dumps(data), "utf-8")
    return path


def test_a_file_of_a_newer_rolebook_says_so(comparison: Comparison, save: Save) -> None:
    path = edited(
        save(comparison, "json"),
        lambda data: data.update(rolebook={"kind": "comparison", "format": 3, "version": "9.1"}),
    )
    with pytest.raises(InputError, match=r"newer Rolebook \(9.1\). Update Rolebook"):
        read_export(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda revision: revision["resolved"].update(system="You are somebody else."),
        lambda revision: revision["templates"].update(chat="{{ input }}"),
        lambda revision: revision["resolved"].update(system=["no text"]),
        lambda revision: revision.update(id="0" * 32),
    ],
)
def test_a_changed_revision_does_not_pass_for_the_one_it_was(
    comparison: Comparison, save: Save, change: Callable[[dict[str, Any]], Any]
) -> None:
    path = edited(save(comparison, "json"), lambda data: change(data["revisions"][0]))
    with pytest.raises(InputError, match="was changed after it was exported"):
        read_export(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.update(comparison="none"),
        lambda data: data["revisions"].pop(),
    ],
)
def test_a_file_without_all_that_a_plan_needs_is_refused(
    comparison: Comparison, save: Save, change: Callable[[dict[str, Any]], Any]
) -> None:
    path = edited(save(comparison, "json"), change)
    with pytest.raises(InputError, match="is no comparison"):
        read_export(path)


def _variant(number: int, **changed: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda data: data["comparison"]["variants"][number].update(changed)


def _plan(**changed: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda data: data["comparison"].update(changed)


def _input(entry: dict[str, Any]) -> Callable[[dict[str, Any]], Any]:
    return lambda data: data["comparison"]["inputs"].append(entry)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_plan(repeats="often"), "repeats must be a whole number from 1 to 100, got 'often'."),
        (_plan(repeats=-1), "repeats must be a whole number from 1 to 100, got '-1'."),
        (_plan(concurrency=0), "concurrency must be a whole number from 1 to 64, got '0'."),
        (_plan(variants=[]), "variants must be a list that is not empty, got a list."),
        (
            _plan(variants=[{"name": str(n), "revision": "r"} for n in range(201)]),
            "These are 201 variants, and 200 are the most.",
        ),
        (_plan(question=5), "question must be text, got '5'."),
        (_input({"turns": []}), "inputs[2].turns must be a list that is not empty, got a list."),
        (_input({"turns": ["a", " "]}), "inputs[2].turns must be text that is not empty, got ' '."),
        (_input({"turns": [{"text": 1}]}), "inputs[2].turns[0] must be text, got a mapping."),
        (_variant(1, name=""), "variants[1].name must be text that is not empty, got ''."),
        (_variant(0, model=["m"]), "variants[0].model must be text, got a list"),
        (
            _variant(0, colour="red"),
            "There is no key 'comparison.variants[0].colour'. Remove it, or correct its name.",
        ),
        (
            _variant(0, parameters={"n": -4}),
            "variants[0].parameters.n must be a whole number from 1 to 16, got '-4'.",
        ),
        (_variant(0, parameters={"Messages": []}), "'Messages' cannot be set under 'request'."),
        (
            _variant(0, name="Twin", is_recorded=False),
            "Two variants are called 'Twin'. Give each a name of its own.",
        ),
        (
            lambda data: data["comparison"]["checks"].append({"max_words": "many"}),
            "checks[1].max_words must be a whole number from 0 to 10000000, got 'many'.",
        ),
    ],
)
def test_a_plan_that_cannot_be_carried_out_says_where_and_why_and_is_not_recorded(
    rolebook: Rolebook,
    comparison: Comparison,
    save: Save,
    change: Callable[[dict[str, Any]], Any],
    said: str,
) -> None:
    path = edited(save(comparison, "json"), _variant(1, name="Twin"))
    with pytest.raises(FileError, match=re.escape(said)) as caught:
        repeat(rolebook, edited(path, change))
    assert str(caught.value).startswith(f"{path}: ")
    summaries, _cursor = rolebook.comparisons.list_comparisons()
    assert [comparison.id] == [summary.comparison.id for summary in summaries]


def test_all_that_is_wrong_in_a_plan_is_told_at_once(comparison: Comparison, save: Save) -> None:
    path = edited(save(comparison, "json"), _variant(0, name="", parameters={"n": -4}))
    with pytest.raises(FileError) as caught:
        read_export(edited(path, _input({"turns": []})))
    assert 3 == len(caught.value.problems)


def test_a_plan_of_more_cells_than_anybody_means_is_refused(
    comparison: Comparison, save: Save
) -> None:
    path = edited(save(comparison, "json"), _plan(inputs=[{"turns": ["Hi"]}] * 501, repeats=100))
    with pytest.raises(FileError, match="That makes 100200 cells, and 100000 are the most"):
        read_export(path)


def test_a_file_that_ends_early_is_refused(comparison: Comparison, save: Save) -> None:
    path = save(comparison, "html")
    path.write_text(path.read_text("utf-8")[:-600], "utf-8")
    with pytest.raises(InputError, match="damaged"):
        read_export(path)


texts = st.text(st.characters(exclude_categories=()), max_size=12)
filled = st.text(min_size=1, max_size=12)
values = st.dictionaries(filled, st.none() | st.booleans() | st.integers() | texts, max_size=3)
variants = st.builds(
    Variant,
    name=filled,
    persona_id=st.sampled_from(["", "plain"]),
    revision=st.just("filled in below"),
    model=texts,
    upstream=texts,
    variables=values,
    parameters=st.fixed_dictionaries(
        {}, optional={"temperature": st.none() | st.just(0.5), "user": texts}
    ),
    is_recorded=st.booleans(),
)
inputs = st.builds(
    ComparisonInput,
    turns=st.lists(texts, min_size=1, max_size=3)
    .filter(lambda said: all(map(str.strip, said)))
    .map(tuple),
    name=texts,
    variables=values,
    reference=texts,
    tags=st.lists(texts.filter(str.strip), max_size=2).map(tuple),
    source=texts,
    recorded=st.lists(filled, max_size=2).map(tuple),
)
checks = st.lists(
    st.builds(lambda words: Check.model_validate({"max_words": words}), st.integers(1, 9))
    | st.builds(lambda text: Check.model_validate({"contains": [text]}), filled),
    max_size=2,
    unique_by=lambda check: check.label,
).map(tuple)


class Shelf:
    """The least that an export reads from: revisions, and nothing answered yet."""

    def __init__(self, revision: Revision) -> None:
        self.log = self.comparisons = EmptyLog(revision)
        self.cells = Planned(revision)


class Planned:
    """Cells that nobody could ask: there is no upstream."""

    def __init__(self, revision: Revision) -> None:
        self._revision = revision

    def persona_of(self, revision_id: str) -> ResolvedPersona:
        return persona_of_revision(self._revision)

    def planned_turn(self, comparison: Comparison, key: CellKey, prepared: object = None) -> Turn:
        raise NotFoundError("There is no such upstream.")


class EmptyLog:
    """One that holds a revision and no turn."""

    def __init__(self, revision: Revision) -> None:
        self._revision = revision

    def get_revision(self, revision_id: str) -> Revision:
        return self._revision

    def marks_of(self, turn_ids: object) -> dict[str, Any]:
        return {}

    def cells(self, comparison: Comparison, **chosen: Any) -> list[Any]:
        return []

    def unlike_turns(self, turn_ids: object) -> list[Any]:
        return []

    def get_turn(self, turn_id: str) -> Turn:
        raise NotFoundError("There is no such turn.")

    def tally(self, comparison: Comparison) -> Tally:
        return Tally(comparison.size)

    def breaks_of(self, comparison_id: str) -> list[Any]:
        return []

    def ballots(self, comparison_id: str) -> list[Any]:
        return []

    def turns_up_to(self, turn_id: str) -> list[Any]:
        return []


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    question=texts,
    variants=st.lists(variants, min_size=1, max_size=3, unique_by=lambda v: v.name).map(tuple),
    inputs=st.lists(inputs, min_size=1, max_size=3).map(tuple),
    repeats=st.integers(1, 100),
    checks=checks,
    concurrency=st.integers(1, 64),
    is_streamed=st.booleans(),
    has_judge=st.booleans(),
    format=st.sampled_from(PLANNED),
)
def test_any_comparison_comes_back_equal(
    rolebook: Rolebook, tmp_path: Path, has_judge: bool, format: str, **plan: Any
) -> None:
    revision = rolebook.library.get_persona("plain").revision
    plan["variants"] = tuple(
        Variant(
            **{field: getattr(v, field) for field in Variant.__slots__} | {"revision": revision.id}
        )
        for v in plan["variants"]
    )
    judge = Judge("plain", revision.id, "m") if has_judge else None
    comparison = Comparison(id="01kajq3m5w8r2c9x0v", judge=judge, created_at=now(), **plan)
    path = tmp_path / "any"
    text = "".join(export_comparison(Shelf(revision), comparison, format))
    path.write_text(text, "utf-8", newline="")
    assert comparison == read_export(path).comparison


def test_a_value_that_fits_no_variable_is_told_before_anything_is_recorded(
    rolebook: Rolebook, comparison: Comparison, save: Save
) -> None:
    path = save(comparison, "json")
    data = json.loads(path.read_text("utf-8"))
    data["comparison"]["variants"][1]["variables"] = {"levle": "expert"}
    path.write_text(json.dumps(data), "utf-8")
    with pytest.raises(InputError, match=r"Teacher .* has no variable 'levle'"):
        repeat(rolebook, path)
    assert 1 == len(rolebook.comparisons.list_comparisons()[0])


@pytest.mark.parametrize("format", EXPORT_FORMATS)
def test_what_was_said_before_an_input_is_taken_along(
    rolebook: Rolebook,
    make_rolebook: MakeRolebook,
    library_dir: Path,
    upstream: FakeUpstream,
    save: Save,
    format: str,
) -> None:
    recorded = talk(rolebook, "plain", "one", "two")
    comparison = plan(
        rolebook, variants=["teacher"], inputs=[{"session": recorded[0].session_id}], recorded=True
    )
    fill(rolebook, comparison)
    path = save(comparison, format)
    assert comparison.inputs == repeat(rolebook, path).inputs
    fresh = make_rolebook(
        {"OPENAI_BASE_URL": upstream.base_url, "ROLEBOOK_MODEL": "ok"},
        database=str(library_dir / "fresh.db"),
    )
    again = repeat(fresh, path)
    assert ["Teacher"] == [variant.name for variant in again.variants]
    asked = len(upstream.requests)
    fill(fresh, again)
    sent = [request.body["messages"][-3:] for request in upstream.requests[asked:]]
    assert ["one", "Echo: one", "two"] in [[said["content"] for said in body] for body in sent]
