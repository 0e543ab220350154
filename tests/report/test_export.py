"""Comparisons to take away, in every format, and the page in a real browser."""

from __future__ import annotations

import csv
import io
import json
import re
import tracemalloc
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, Protocol

import pytest
from markdown_it import MarkdownIt

from rolebook import __version__
from rolebook.core.chat import TurnRequest
from rolebook.core.comparison import Ballot, CellKey, Comparison
from rolebook.core.errors import InputError
from rolebook.core.measure import summarise
from rolebook.core.preference import Outcome
from rolebook.core.session import new_id
from rolebook.core.voting import uses_of
from rolebook.language.translator import translator
from rolebook.report.export import EXPORT_FORMATS, export_comparison
from rolebook.wiring import Rolebook
from tests.conftest import Failures, MakeRolebook, NewPage
from tests.fake_upstream import FakeUpstream
from tests.judging import JUDGE_MODEL, add_judge
from tests.test_compare import cells_of, fill, plan, stop, talk
from tests.web.answering import answer_all
from tests.web.checks import assert_accessible_and_fitting

QUESTION = "Which teacher is better?"
READABLE = ("md", "html")


def exported(rolebook: Rolebook, comparison: Comparison, format: str, language: str = "en") -> str:
    pieces = export_comparison(rolebook, comparison, format, translator=translator(language))
    return "".join(pieces)


def rows_of(text: str) -> list[dict[str, str]]:
    assert text.startswith("\ufeffcomparison_id,")
    assert "\n" not in text.replace("\r\n", "").split("\r\n")[0]
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))


def vote(rolebook: Rolebook, comparison: Comparison, outcome: Outcome) -> None:
    pair = CellKey(0, 0, 0), CellKey(1, 0, 0)
    round = uses_of(pair, rolebook.comparisons.ballots(comparison.id))
    ballot = Ballot(new_id(), comparison.id, *pair, round=round)
    rolebook.comparisons.create_ballot(ballot)
    rolebook.comparisons.cast_ballot(ballot.id, outcome)


def planned(rolebook: Rolebook, **spec: Any) -> Comparison:
    return plan(rolebook, question=QUESTION, **spec)


@pytest.fixture
def comparison(rolebook: Rolebook) -> Comparison:
    """Two variants by two inputs, one of two turns, filled, checked and voted on."""
    comparison = planned(
        rolebook,
        variants=[
            "teacher",
            {"persona": "plain", "model": "500?retry_after_ms=1", "name": "Broken"},
        ],
        inputs=[
            {"input": "Why is the sky blue?", "name": "Sky", "tags": ["physics"]},
            {"turns": ["What is a fraction?", "And why?"], "variables": {"level": "expert"}},
        ],
        checks=[{"max_words": 3}],
    )
    fill(rolebook, comparison)
    vote(rolebook, comparison, Outcome.LEFT)
    return rolebook.comparisons.get_comparison(comparison.id)


@pytest.mark.parametrize("format", EXPORT_FORMATS)
def test_every_format_names_all_that_it_takes_to_say_how_it_came_about(
    rolebook: Rolebook, comparison: Comparison, format: str
) -> None:
    text = exported(rolebook, comparison, format)
    turn = cells_of(rolebook, comparison)["1-1-1"].turns[0]
    for named in (
        QUESTION,
        comparison.id,
        __version__,
        comparison.variants[0].revision,
        comparison.variants[1].revision,
        "Broken",
        "Sky",
        "physics",
        "Echo: Why is the sky blue?",
        "at most 3 is allowed",
        "failed with status 500",
        turn.id,
        turn.session_id,
        turn.upstream,
    ):
        assert named in text, named


@pytest.mark.parametrize("format", [format for format in EXPORT_FORMATS if format != "csv"])
def test_every_format_but_csv_holds_personas_and_templates_whole(
    rolebook: Rolebook, comparison: Comparison, format: str
) -> None:
    text = exported(rolebook, comparison, format)
    revision = rolebook.log.get_revision(comparison.variants[0].revision)
    quoted = json.dumps(revision.templates["chat"], ensure_ascii=False)
    assert quoted.replace('"', "&#34;").replace("'", "&#39;") in text or quoted in text


def test_json_has_every_turn_as_the_log_has_it(rolebook: Rolebook, comparison: Comparison) -> None:
    document = json.loads(exported(rolebook, comparison, "json"))
    assert {"kind": "comparison", "format": 2, "version": __version__} == {
        name: document["rolebook"][name] for name in ("kind", "format", "version")
    }
    cells = cells_of(rolebook, comparison)
    assert list(cells) == [cell["key"] for cell in document["cells"]]
    two = document["cells"][2]
    assert (two["input"], two["variant_name"], two["status"]) == (2, "Teacher", "complete")
    assert [turn.text for turn in cells["1-2-1"].turns] == [turn["text"] for turn in two["turns"]]
    assert cells["1-2-1"].turns[0].parameters_sent == two["turns"][0]["parameters_sent"]
    failed = document["cells"][1]
    assert "upstream_server" == failed["turns"][0]["error"]["code"]
    assert ({"level": "expert"}, 3, 1) == (
        document["comparison"]["inputs"][1]["variables"],
        document["comparison"]["checks"][0]["max_words"],
        len(document["votes"]),
    )


@pytest.mark.parametrize("format", EXPORT_FORMATS)
def test_every_format_has_what_somebody_has_noted_on_an_answer(
    rolebook: Rolebook, comparison: Comparison, format: str
) -> None:
    turn = cells_of(rolebook, comparison)["1-1-1"].turns[0]
    rolebook.log.mark_turn(turn.id, note="Kind, and *short*.", is_starred=True, thumb=-1)
    text = exported(rolebook, comparison, format)
    note = "★ 👎 Kind, and \\*short\\*." if format == "md" else "Kind, and *short*."
    assert 1 == text.count(note)


def test_json_has_measures_with_their_intervals(rolebook: Rolebook, comparison: Comparison) -> None:
    document = json.loads(exported(rolebook, comparison, "json"))
    evidence = summarise(comparison, rolebook.comparisons.cells(comparison))
    words = next(measure for measure in document["measures"] if measure["name"] == "words")
    interval = evidence.get("words").intervals[0]
    assert interval
    assert (interval.value, interval.low, interval.n) == tuple(
        words["intervals"]["Teacher"][name] for name in ("value", "low", "n")
    )
    assert words["intervals"]["Broken"] is None
    assert document["preference"]["strength"]["Teacher"]["n"] == 1
    assert document["finish_reasons"][0]["shares"]["Teacher"]["value"] == 1.0


@pytest.mark.parametrize("count", [5, 6])
def test_json_says_of_a_difference_whether_it_is_clear(rolebook: Rolebook, count: int) -> None:
    """Where it is the same on every input it has no interval to tell that by, and pages call it clear."""
    variants = [{"persona": "plain", "model": f"ok?text={text}"} for text in ("One", "One+two")]
    comparison = planned(
        rolebook,
        variants=variants,
        inputs=[f"Number {n}" for n in range(count)],
        checks=[{"max_words": 1}],
    )
    fill(rolebook, comparison)
    document = json.loads(exported(rolebook, comparison, "json"))
    for name in ("words", "checks passed"):
        found = next(measure for measure in document["measures"] if measure["name"] == name)
        difference = found["differences"][comparison.variants[1].name]
        assert (None, count >= 6) == (difference["low"], difference["is_clear"])


def test_what_differs_and_what_each_tag_shows_is_taken_away(rolebook: Rolebook) -> None:
    variants = [{"persona": "plain", "model": f"ok?text={text}"} for text in ("One", "One+two")]
    comparison = planned(
        rolebook,
        variants=variants,
        inputs=[{"input": f"Number {n}", "tags": ["odd"] if n % 2 else ["even"]} for n in range(7)],
    )
    fill(rolebook, comparison)
    vote(rolebook, comparison, Outcome.LEFT)
    first, second = (variant.name for variant in comparison.variants)
    document = json.loads(exported(rolebook, comparison, "json"))
    even, odd = document["by_tag"]
    assert [("even", 4, 1), ("odd", 3, 0)] == [
        (tag["tag"], tag["inputs"], tag["preference"]["votes"]) for tag in (even, odd)
    ]
    words = next(measure for measure in even["measures"] if measure["name"] == "words")
    assert (1, 4, 2) == tuple(words["differences"][second][n] for n in ("value", "n", "among"))
    assert 1 == words["intervals"][first]["value"]
    text = exported(rolebook, comparison, "md")
    assert "## Against Plain assistant" in text
    assert "| Words per answer | **+1.0 words** |" in text
    assert "### \\#odd · 3 inputs\n\n- Nothing can be told apart here yet.\n" in text


def test_jsonl_has_the_head_and_then_a_turn_a_line(
    rolebook: Rolebook, comparison: Comparison
) -> None:
    head, *lines = map(json.loads, exported(rolebook, comparison, "jsonl").splitlines())
    assert comparison.id == head["comparison"]["id"]
    # A cell that fails at its first text is not asked the second.
    assert ["1-1-1", "2-1-1", "1-2-1", "1-2-1", "2-2-1"] == [line["cell"]["key"] for line in lines]
    assert "Echo: And why?" == lines[3]["turn"]["text"]


def test_csv_has_a_row_for_each_turn(rolebook: Rolebook, comparison: Comparison) -> None:
    rows = rows_of(exported(rolebook, comparison, "csv"))
    assert {(comparison.id, __version__)} == {
        (row["comparison_id"], row["rolebook_version"]) for row in rows
    }
    assert [variant.revision for variant in comparison.variants] == [
        row["revision"] for row in rows[:2]
    ]
    said = [(row["variant_name"], row["input_number"], row["turn"]) for row in rows]
    assert ("Teacher", "2", "2") == said[3]
    assert ("complete", "failed") == (rows[0]["status"], rows[1]["cell_status"])
    # Each vote once, on the first turn of its cells.
    assert ["1", ""] == [rows[0]["votes_won"], rows[2]["votes_won"]]
    assert ("0", "1") == (rows[0]["checks_passed"], rows[0]["checks_failed"])


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠"])
def test_csv_cell_is_never_a_formula_and_jsonl_is_exact(
    rolebook: Rolebook, upstream: FakeUpstream, start: str
) -> None:
    said = f'{start}HYPERLINK("https://evil.example","x")'
    comparison = planned(rolebook, variants=["plain"], inputs=[{"input": said, "name": said}])
    fill(rolebook, comparison)
    (row,) = rows_of(exported(rolebook, comparison, "csv"))
    assert f"'{said}" == row["input"]
    assert not [cell for cell in row.values() if cell.startswith(start)]
    head, line = map(json.loads, exported(rolebook, comparison, "jsonl").splitlines())
    assert said == line["turn"]["input"] == head["comparison"]["inputs"][0]["turns"][0]


def test_markdown_lets_no_answer_out_of_its_fence(rolebook: Rolebook) -> None:
    said = "````\n# Not a heading\n```json rolebook-comparison\n{}\n```\n<img src=x>"
    comparison = planned(
        rolebook, variants=[{"persona": "plain", "name": "# a | `b` <i>"}], inputs=[said]
    )
    fill(rolebook, comparison)
    tokens = MarkdownIt("commonmark").enable("table").parse(exported(rolebook, comparison, "md"))
    fences = [token for token in tokens if token.type == "fence"]
    assert [f"{said}\n", f"Echo: {said}\n"] == [fence.content for fence in fences[1:3]]
    assert "json rolebook-comparison" == fences[-1].info
    assert comparison.id == json.loads(fences[-1].content)["comparison"]["id"]
    headings = [
        tokens[index + 1].content for index, token in enumerate(tokens) if token.tag == "h1"
    ]
    assert QUESTION == headings[0]
    assert 1 == len(
        [token for token in tokens if token.type == "heading_open" and token.tag == "h1"]
    )
    assert not [token for token in tokens if token.type == "html_block"]
    inline = [child for token in tokens for child in token.children or ()]
    assert not [child for child in inline if child.type in ("html_inline", "image")]


@pytest.mark.parametrize("format", READABLE)
def test_it_speaks_the_language_of_its_reader(
    rolebook: Rolebook, comparison: Comparison, format: str
) -> None:
    said = translator("zh")
    text = exported(rolebook, comparison, format, "zh")
    assert said.gettext("Checks passed") in text
    assert "Echo: Why is the sky blue?" in text
    if format == "md":
        assert f"- {said.gettext('Comparison')}：{comparison.id}\n" in text
        assert not re.search("[\u4e00-\u9fff][:;,] ", text)


def test_other_formats_are_the_same_in_every_language(
    rolebook: Rolebook, comparison: Comparison
) -> None:
    def in_language(language: str) -> str:
        return exported(rolebook, comparison, "csv", language)

    times = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")
    assert times.sub("", in_language("en")) == times.sub("", in_language("zh"))


@pytest.mark.parametrize("format", EXPORT_FORMATS)
def test_no_address_of_an_upstream_is_given_away(
    make_rolebook: MakeRolebook, library_dir: Path, format: str
) -> None:
    library_dir.joinpath("rolebook.yaml").write_text(
        "upstreams:\n  quiet:\n    base_url: http://127.0.0.1:9/secret-path/v1\n    keys: [env:QUIET_KEY]\n",
        "utf-8",
    )
    book = make_rolebook({"QUIET_KEY": "sk-very-secret", "ROLEBOOK_MODEL": "m"})
    comparison = planned(
        book, variants=[{"persona": "plain", "upstream": "quiet"}], inputs=["Hello"]
    )
    fill(book, comparison)
    text = exported(book, comparison, format)
    assert "quiet" in text
    assert "secret" not in text
    assert "Check that quiet runs" in text


@pytest.mark.parametrize("format", EXPORT_FORMATS)
def test_what_goes_on_while_it_is_taken_away_changes_nothing_of_it(
    rolebook: Rolebook, format: str
) -> None:
    comparison = planned(rolebook, variants=["plain", "teacher"], inputs=["One", "Two"])
    fill(rolebook, comparison, keys=[CellKey(0, 0, 0)])
    pieces = export_comparison(rolebook, comparison, format)
    begun = next(pieces)
    fill(rolebook, comparison)
    text = begun + "".join(pieces)
    assert "Echo: One" in text
    assert "Echo: Two" not in text


def test_it_says_how_far_the_run_was(rolebook: Rolebook) -> None:
    comparison = planned(rolebook, variants=["plain", "teacher"], inputs=["One", "Two"])
    fill(rolebook, comparison, keys=[CellKey(0, 0, 0)])
    progress = json.loads(exported(rolebook, comparison, "json"))["progress"]
    assert (4, 1, 3) == (progress["total"], progress["complete"], progress["waiting"])
    assert "Answered cells: 1 / 4" in exported(rolebook, comparison, "md")
    assert "3 of 4 cells had no complete answer yet" in exported(rolebook, comparison, "html")


def test_it_says_which_checks_its_figures_do_without(
    rolebook: Rolebook, upstream: FakeUpstream, library_dir: Path
) -> None:
    add_judge(library_dir)
    upstream.model_rule(JUDGE_MODEL, "ok?text=Perhaps.")
    comparison = planned(
        rolebook,
        variants=["plain", "teacher"],
        inputs=["One", "Two"],
        checks=[{"max_words": 9}, {"rubric": "Explains."}],
    )
    answer_all(rolebook, comparison)
    fill(rolebook, comparison, keys=[CellKey(0, 0, 0)])
    told = {format: exported(rolebook, comparison, format) for format in EXPORT_FORMATS}
    head, _, _ = told["jsonl"].partition("\n")
    for text in (told["json"], head):
        progress = json.loads(text)["progress"]
        assert (4, 6, 1) == tuple(progress[name] for name in ("complete", "unchecked", "unjudged"))
    assert ["0", "2", "2", "2"] == [row["checks_not_made"] for row in rows_of(told["csv"])]
    assert "- Checks not made yet: 6\n- Rubrics not judged: 1\n" in told["md"]
    assert "6 checks not made yet" in told["html"]
    assert "1 rubric not judged" in told["html"]
    fill(rolebook, comparison)
    told = {format: exported(rolebook, comparison, format) for format in READABLE}
    assert not [text for text in told.values() if "not made yet" in text]


def test_recorded_answers_that_are_not_whole_are_told_and_leave_nothing_to_be_done(
    rolebook: Rolebook,
) -> None:
    recorded = talk(rolebook, "plain", "One")
    session_id = recorded[0].session_id
    list(rolebook.chat.stream_turn(TurnRequest(session_id, "Two", model="429")))
    stop(rolebook, session_id, "Three")
    comparison = planned(
        rolebook, variants=["teacher"], inputs=[{"session": session_id}], recorded=True
    )
    fill(rolebook, comparison)
    told = {format: exported(rolebook, comparison, format) for format in EXPORT_FORMATS}
    head, _, _ = told["jsonl"].partition("\n")
    for text in (told["json"], head):
        progress = json.loads(text)["progress"]
        assert (4, 1, 1, 0) == tuple(
            progress[name] for name in ("complete", "failed", "stopped", "waiting")
        )
        assert (1, 1) == (progress["recorded_failed"], progress["recorded_stopped"])
    cells = json.loads(told["json"])["cells"]
    statuses = [cell["status"] for cell in cells if cell["key"].startswith("1-")]
    assert ["complete", "failed", "stopped"] == statuses
    assert "- Answered cells: 4 / 6\n- Failed cells: 1\n- Stopped cells: 1\n" in told["md"]
    assert "4 of 6 cells answered" in told["html"]
    assert "1 stopped" in told["html"]
    assert "It was not finished" not in told["html"]
    for text in (told["md"], told["html"]):
        assert "1 of 6 cells failed" in text


def test_unknown_format_is_refused_at_once(rolebook: Rolebook, comparison: Comparison) -> None:
    with pytest.raises(InputError, match=r"no export format xml.*json, jsonl, csv, md, html"):
        export_comparison(rolebook, comparison, "xml")


@pytest.mark.parametrize("format", READABLE)
def test_what_was_said_before_an_input_is_there_to_read(rolebook: Rolebook, format: str) -> None:
    recorded = talk(rolebook, "plain", "A first question", "A second one")
    comparison = planned(
        rolebook, variants=["teacher"], inputs=[{"session": recorded[0].session_id}], recorded=True
    )
    fill(rolebook, comparison)
    text = exported(rolebook, comparison, format)
    assert text.count("Echo: A first question") >= 3
    chinese = exported(rolebook, comparison, format, "zh")
    assert translator("zh").gettext("As recorded") in chinese


def test_large_one_is_given_out_piece_by_piece(rolebook: Rolebook) -> None:
    comparison = planned(
        rolebook, variants=["plain"], inputs=[f"Question {i} {'x' * 2000}" for i in range(100)]
    )
    fill(rolebook, comparison)
    for format in EXPORT_FORMATS:
        pieces: Iterator[str] = export_comparison(rolebook, comparison, format)
        tracemalloc.start()
        longest = max(map(len, pieces))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        # The plan itself is one piece, as it is one value; nothing else is as long.
        assert longest < 400_000, format
        assert peak < 8_000_000, format


class OpenPage(Protocol):
    """Opens the export of a comparison as a file; the page's own request is the only one that it may make."""

    def __call__(self, comparison: Comparison, **chosen: Any) -> Any: ...


@pytest.fixture
def open_page(
    rolebook: Rolebook, new_page: NewPage, failures: Failures, tmp_path: Path
) -> OpenPage:
    def open_file(comparison: Comparison, **chosen: Any) -> Any:
        path = tmp_path / "export.html"
        language = chosen.get("language", "en")
        path.write_text(exported(rolebook, comparison, "html", language), "utf-8")
        page = new_page(**chosen)
        page.goto(path.as_uri())
        failures.expect(f"request to {path.as_uri()}")
        return page

    return open_file


@pytest.fixture
def hostile(rolebook: Rolebook) -> Comparison:
    """Everything that anybody can name or say tries to run or to load something."""
    text = "<script>window.__pwned=1</script><img src=https://evil.example/x onerror=window.__pwned=1></pre>"
    comparison = plan(
        rolebook,
        question=f"Who? {text}",
        variants=[
            {"persona": "plain", "model": "xss", "name": f"One {text}"},
            {"persona": "teacher", "model": "xss", "variables": {"subject": text}},
        ],
        inputs=[
            {"input": f'Say {text} <pre id="plan">{{}}</pre>', "name": text, "tags": [text]},
            {"turns": ["</style></title>", "]]>"], "reference": text},
        ],
        checks=[{"contains": [text]}],
    )
    fill(rolebook, comparison)
    vote(rolebook, comparison, Outcome.RIGHT)
    cell = cells_of(rolebook, comparison)["1-1-1"]
    rolebook.log.mark_turn(cell.turns[0].id, note=text, is_starred=True)
    return comparison


@pytest.mark.parametrize("language", ["en", "zh"])
def test_html_runs_nothing_and_asks_nobody(
    hostile: Comparison, open_page: OpenPage, language: str
) -> None:
    page = open_page(hostile, language=language)
    for details in page.locator("details").all():
        details.evaluate("element => { element.open = true }")
    assert page.evaluate("window.__pwned") is None
    assert 0 == page.locator("script, img, iframe, form, object, embed, link, [style]").count()
    assert (
        page.locator("meta[http-equiv='Content-Security-Policy']")
        .get_attribute("content")
        .startswith("default-src 'none'")
    )


def test_html_plan_is_text_that_a_browser_shows_as_it_is(
    hostile: Comparison, open_page: OpenPage
) -> None:
    page = open_page(hostile)
    document = json.loads(page.locator("#plan").text_content())
    assert hostile.id == document["comparison"]["id"]
    assert hostile.question == document["comparison"]["question"]


def test_html_is_accessible_and_fits_its_screen(
    comparison: Comparison, open_page: OpenPage
) -> None:
    looks = product(("light", "dark"), (390, 1280))
    assert_accessible_and_fitting(open_page(comparison), looks)


def test_html_folds_many_inputs_to_a_line_each(rolebook: Rolebook, open_page: OpenPage) -> None:
    comparison = planned(rolebook, variants=["plain"], inputs=[f"Question {i}" for i in range(30)])
    fill(rolebook, comparison)
    page = open_page(comparison)
    inputs = page.locator("details.input")
    assert 30 == inputs.count()
    assert not page.get_by_text("Echo: Question 29").is_visible()
    inputs.nth(29).locator("summary").first.click()
    assert page.get_by_text("Echo: Question 29").is_visible()
