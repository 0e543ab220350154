"""What is said of a comparison: no more than its answers and votes show, and nothing without what it rests on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from rolebook.core.comparison import Ballot, Cell, Comparison, ComparisonInput, Variant
from rolebook.core.measure import summarise, summarise_by_tag
from rolebook.core.preference import preference
from rolebook.core.session import TurnError, TurnStatus
from rolebook.core.voting import votes_of
from rolebook.language.translator import translator
from rolebook.report import PAGES
from rolebook.report.evidence import Findings, findings
from tests.core.grids import ballot, cell, grid, saying, turn

SAID = ["Because.", "It is so.", "Who knows, really."]


def read(
    comparison: Comparison,
    cells: Sequence[Cell],
    ballots: Sequence[Ballot] = (),
    language: str = "en",
) -> Findings:
    return findings(
        comparison,
        summarise(comparison, cells),
        ballots,
        translator=translator(language),
        hues=[f"hue-{number}" for number in range(len(comparison.variants))],
        by_tag=summarise_by_tag(comparison, cells),
    )


def named(comparison: Comparison, *names: str) -> Comparison:
    return replace(comparison, variants=tuple(Variant(name, name.lower(), "r") for name in names))


def said(found: Findings, kind: str = "") -> list[str]:
    return [s.text for s in found.sentences if kind in ("", s.kind)]


def asking(comparison: Comparison, *questions: Sequence[int]) -> list[Cell]:
    """Cells in which each variant asks a number of questions at each input."""
    return [
        cell(f"{variant}-{entry}-1", f"Well {entry}. " + "What? " * count)
        for variant, counts in enumerate(questions, 1)
        for entry, count in enumerate(counts, 1)
    ]


def votes(comparison: Comparison, left: int, right: int, *, inputs: int = 1) -> list[Ballot]:
    """So many votes for the first variant and for the second, sides in turn."""
    outcomes = [True] * left + [False] * right
    ballots = []
    for number, is_first in enumerate(outcomes):
        entry = number % inputs + 1
        keys = [f"1-{entry}-1", f"2-{entry}-1"]
        is_turned = number % 4 in (1, 2)
        vote = "left" if is_first is not is_turned else "right"
        left_key, right_key = reversed(keys) if is_turned else keys
        ballots.append(ballot(comparison, left_key, right_key, vote))
    return ballots


def rendered(found: Findings, **values: str) -> str:
    environment = Environment(
        loader=FileSystemLoader(PAGES),
        extensions=["jinja2.ext.i18n"],
        autoescape=True,
        undefined=StrictUndefined,
    )
    spoken = translator("en")
    environment.globals["punctuation"] = spoken.punctuation
    environment.install_gettext_callables(  # type: ignore[attr-defined]
        spoken.gettext, spoken.ngettext, newstyle=True
    )
    return environment.get_template("evidence.html").render(
        findings=found, **({"vote_link": ""} | values)
    )


def test_a_clear_difference_is_said_with_its_interval_and_what_it_rests_on() -> None:
    comparison = named(grid(2, 12), "Teacher", "Socratic teacher")
    counts = [2, 3] * 6, [1, 2, 1, 2, 1, 3] * 2
    found = read(comparison, asking(comparison, *counts))
    (sentence,) = [text for text in said(found, "clear") if "questions" in text]
    assert re.fullmatch(
        r"Socratic teacher asks 0\.8 fewer questions an answer than Teacher \[0\.6–1\.1\],"
        r" over 12 inputs\.",
        sentence,
    )
    questions = next(panel for panel in found.clear if panel.title == "Questions per answer")
    (line,) = questions.against
    assert ("−0.8 questions", "−1.1 to −0.6", "12 inputs", True) == (
        line.value,
        line.interval,
        line.basis,
        line.is_clear,
    )


def test_what_cannot_be_told_is_folded_away_and_said_to_be_open() -> None:
    comparison = grid(2, 12)
    cells = asking(comparison, [1, 2, 1, 0] * 3, [2, 1, 0, 1] * 3)
    found = read(comparison, cells)
    assert () == found.clear
    assert "Questions per answer" in [panel.title for panel in found.unclear]
    assert ["In what can be counted, no difference between them is clear yet."] == said(found)


STOOD_IN = {
    "upstream": "spare",
    "model": "small",
    "upstream_requested": "work",
    "model_requested": "large",
}


def test_answers_of_a_stand_in_are_counted_and_told_in_both_languages() -> None:
    comparison = named(grid(3, 2), "Large", "Small", "Other")
    cells = [
        cell("1-1-1", "One.", **STOOD_IN),
        cell("1-2-1", "One.", upstream="work", model="large"),
        cell("2-1-1", "One.", upstream="spare", model="small"),
        cell("3-1-1", "One.", upstream="spare", model="other"),
        cell("3-2-1", "One.", **(STOOD_IN | {"upstream": "third", "model": ""})),
    ]
    assert [
        "small of spare stood in for large of work: Large 1/2. These answers tell nothing of large of work. "
        "The same model has answered for Small: held against these, it is compared with itself.",
        "third stood in for large of work: Other 1/2. These answers tell nothing of large of work.",
    ] == said(read(comparison, cells), "warning")
    first, _ = said(read(comparison, cells, language="zh"), "warning")
    assert (
        "spare 的 small 替 work 的 large 代答：Large 1/2。这些回答说明不了 work 的 large。"
        "Small 的回答也出自同一个模型：与之相比，就是它与自己相比。"
    ) == first


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (1, ["Only 1 input: treat this as a first impression."]),
        (3, ["Only 3 inputs: treat these as a first impression."]),
        (10, []),
    ],
)
def test_small_samples_are_said_to_be_small(inputs: int, expected: list[str]) -> None:
    comparison = grid(2, inputs)
    found = read(comparison, asking(comparison, [1] * inputs, [0] * inputs))
    assert expected == said(found, "note")


def test_inputs_that_say_the_same_are_one_and_named() -> None:
    comparison = saying(grid(2, 12), *"abcdefghi", "a", "b", "a")
    cells, ballots = asking(comparison, [1, 2] * 6, [0] * 12), votes(comparison, 9, 3, inputs=12)
    found = read(comparison, cells, ballots)
    assert [
        "3 inputs say the same as earlier ones and count as repeats of these: numbers 10, 11, 12.",
        "Only 9 inputs: treat these as a first impression.",
    ] == said(found, "note")
    assert 9 == len(found.inputs)
    assert 12 == sum(sum(line.wins) + line.ties for line in found.inputs)
    once = saying(grid(1, 2), "a", "a")
    assert (
        "1 input says the same as an earlier one and counts as a repeat of it: number 2."
        in said(read(once, asking(once, [1, 1])))
    )
    assert "有 1 条输入与前面的相同" in said(read(once, asking(once, [1, 1]), language="zh"))[0]
    many = saying(grid(1, 30), *["a"] * 30)
    assert said(read(many, asking(many, [1] * 30)), "note")[0].endswith("10, 11, ….")


@pytest.mark.parametrize(
    ("left", "right", "kind", "expected"),
    [
        (30, 10, "clear", r"A is preferred to B: 75 % \[51–91\] of 40 blind votes\."),
        (
            12,
            8,
            "open",
            r"A or B\? Not clear yet: A is at 60 % \[28–87\] of 20 blind votes\."
            r" About \d+ more should tell\.",
        ),
        (100, 100, "open", r"A and B look alike: 50 % \[39–61\] of 200 blind votes for A\."),
        (5, 4, "open", r"A or B\? Not clear yet: A is at 56 % \[15–91\] of 9 blind votes\."),
        (1, 0, "open", r"A or B\? .* 100 % \[\d+–100\] of 1 blind vote\."),
    ],
)
def test_votes_are_told_as_far_as_they_tell(
    left: int, right: int, kind: str, expected: str
) -> None:
    comparison = grid(2, left + right)
    ballots = votes(comparison, left, right, inputs=left + right)
    first, *_ = read(comparison, [], ballots).sentences[1:]
    assert re.fullmatch(expected, first.text), first.text
    assert kind == first.kind


@pytest.mark.parametrize(
    ("inputs", "note", "chinese"),
    [
        (
            1,
            "All these votes are on 1 input. To tell of others, it takes votes on at least 7 more.",
            "这些投票都针对 1 条输入。要判断其他输入，至少还要对 7 条输入投票。",
        ),
        (
            4,
            "All these votes are on 4 inputs. To tell of others, it takes votes on at least 4 more.",
            "这些投票都针对 4 条输入。要判断其他输入，至少还要对 4 条输入投票。",
        ),
    ],
)
def test_votes_on_few_inputs_are_said_to_tell_of_no_others(
    inputs: int, note: str, chinese: str
) -> None:
    comparison = grid(2, inputs)
    ballots = votes(comparison, 28, 4, inputs=inputs)
    told = said(read(comparison, [], ballots))
    assert told[1].startswith("A is ahead of B: 88 % [")
    assert told[1].endswith("] of 32 blind votes.")
    assert note == told[2]
    assert chinese in said(read(comparison, [], ballots, language="zh"))
    strengths = read(comparison, [], ballots).strengths
    assert strengths
    assert [True, True] == [row.mark.is_small for row in strengths.rows]
    # What is missing at first are votes.
    few = said(read(comparison, [], votes(comparison, 3, 0, inputs=inputs)))
    assert not any("on at least" in text for text in few)


def test_figures_of_votes_are_those_of_the_statistics() -> None:
    comparison = grid(2, 20)
    ballots = votes(comparison, 48, 16, inputs=20)
    (verdict,) = preference(votes_of(comparison, ballots)).verdicts
    found = read(comparison, [], ballots)
    low, high = verdict.share.low, verdict.share.high
    assert low is not None
    assert high is not None
    figures = f"{verdict.share.value:.0%}"[:-1] + f" % [{low:.0%}"[:-1] + f"–{high:.0%}"[:-1]
    assert f"A is preferred to B: {figures}] of 64 blind votes." in said(found)
    assert 64 == found.votes
    assert found.strengths is not None
    assert ["A", "B"] == [row.name.whole for row in found.strengths.rows]


def test_variants_without_votes_are_named() -> None:
    comparison = grid(4, 10)
    found = read(comparison, [], votes(comparison, 8, 2, inputs=10))
    assert "No votes yet on: C and D." in said(found, "open")


def test_votes_that_connect_nothing_rank_nothing() -> None:
    comparison = grid(4, 2)
    ballots = [
        ballot(comparison, "1-1-1", "2-1-1", "left"),
        ballot(comparison, "3-1-1", "4-1-1", "left"),
    ]
    found = read(comparison, [], ballots)
    assert any("do not connect all variants" in text for text in said(found, "open"))


def test_a_habit_of_the_eye_is_a_warning() -> None:
    comparison = grid(2, 40)
    ballots = [
        ballot(comparison, f"{n % 2 + 1}-{n + 1}-1", f"{2 - n % 2}-{n + 1}-1", "left")
        for n in range(40)
    ]
    (warning,) = said(read(comparison, [], ballots), "warning")
    assert warning.startswith("100 % [85–100] of 40 decided votes went to A, the left side.")


def test_failures_and_cut_off_answers_are_warnings_with_their_numbers() -> None:
    comparison = grid(2, 3)
    failed = turn("", status=TurnStatus.FAILED, error=TurnError("upstream", "It broke."))
    cells = [
        cell("1-1-1", "Long", finish_reason="length"),
        cell("1-2-1", "Short."),
        Cell(cell("2-1-1").key, 1, "s", (failed,)),
        cell("2-2-1", "Hm", finish_reason="content_filter"),
    ]
    assert [
        "1 of 6 cells failed (B 1/3).",
        "Answers were cut off, as the longest allowed was reached (max_tokens): A 1/2.",
        "Answers were cut off by the upstream's content filter: B 1/1.",
    ] == said(read(comparison, cells), "warning")


def test_why_answers_ended_is_told_with_intervals_unless_all_came_to_their_end() -> None:
    comparison = grid(2, 3)
    ended = [cell(f"{v}-{n}-1", "Yes.") for v in (1, 2) for n in (1, 2)]
    assert () == read(comparison, ended).reasons
    others = [
        cell("1-3-1", "-", finish_reason="tool_calls"),
        cell("2-3-1", "-", finish_reason=None),
    ]
    found = read(comparison, [*ended, *others])
    assert ["stop", "tool_calls", "not told"] == [line.label for line in found.reasons]
    assert ("33 %", "6–79", "3 answers") == found.reasons[1].shares[0]
    assert any(text.startswith("Answers ask for a tool") for text in said(found, "warning"))


def test_checks_have_a_line_each_and_unknown_is_a_dash() -> None:
    comparison = grid(2, 12)
    cells = [cell(f"1-{n}-1", "Yes.", checks={"short": n > 3}) for n in range(1, 13)]
    cells += [cell("2-1-1", "Yes.", checks={"polite": None})]
    found = read(comparison, cells)
    short, polite = found.checks
    assert (("75 %", "47–91", "12 answers"), ("–", "", "")) == short.shares
    assert (("–", "", ""), ("–", "", ""), 1) == (*polite.shares, polite.untold)
    assert any("could not be judged: 1." in text for text in said(found, "note"))


def test_quality_is_votes_where_there_are_any_else_checks() -> None:
    comparison = grid(2, 4)
    cells = [
        cell(f"{v}-{n}-1", "Yes.", duration_ms=900.0 + n, checks={"ok": n > v})
        for v in (1, 2)
        for n in range(1, 5)
    ]
    (scatter,) = read(comparison, cells).scatters
    assert ("Time per answer", "Checks passed") == (scatter.x_title, scatter.y_title)
    (scatter,) = read(comparison, cells, votes(comparison, 3, 1, inputs=4)).scatters
    assert "How often it is preferred" == scatter.y_title


def versus(comparison: Comparison, first: int, second: int, *, wins: int, of: int) -> list[Ballot]:
    """Votes between two variants, by their numbers, one on each input; the first of them wins so many."""
    return [
        ballot(comparison, f"{first}-{n}-1", f"{second}-{n}-1", "left" if n <= wins else "right")
        for n in range(1, of + 1)
    ]


def test_of_several_variants_a_share_says_how_many_votes_were_on_the_two() -> None:
    comparison = grid(3, 30)
    ballots = [
        *versus(comparison, 1, 2, wins=26, of=30),
        *versus(comparison, 1, 3, wins=8, of=12),
    ]
    preferred, unsure = read(comparison, [], ballots).sentences[1:3]
    assert re.fullmatch(
        r"A is preferred to B: \d+ % \[\d+–\d+\] after 30 blind votes between the two, 42 in all\.",
        preferred.text,
    )
    assert re.fullmatch(
        r"A or C\? Not clear yet: A is at \d+ % \[\d+–\d+\]"
        r" after 12 blind votes between the two, 42 in all\. About \d+ more should tell\.",
        unsure.text,
    )


@pytest.mark.parametrize(
    ("wins", "expected"),
    [
        (
            (20, 20),
            r"against C, after 60 blind votes in all\. About \d+ more should tell of all of them\.",
        ),
        ((15, 20), r"against C, after 60 blind votes in all\. About \d+ more should tell of C\."),
        ((15, 16), r"against C, after 60 blind votes in all\."),
    ],
)
def test_of_several_variants_it_says_about_how_many_more_votes_it_takes(
    wins: tuple[int, int], expected: str
) -> None:
    comparison = grid(3, 30)
    ballots = [
        vote
        for other, won in enumerate(wins, 2)
        for vote in versus(comparison, 1, other, wins=won, of=30)
    ]
    sentence = said(read(comparison, [], ballots), "open")[-1]
    assert re.fullmatch(
        r"Whether A is preferred to 2 others is not clear yet: .*" + expected, sentence
    )


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        (
            2,
            r"to 2 others: [89]\d % \[\d+–\d+\] against B and 9\d % \[\d+–\d+\] against C, after 80",
        ),
        (
            5,
            r"to 5 others: from [89]\d % \[\d+–\d+\] against B to 9\d % \[\d+–\d+\] against F, after 200",
        ),
    ],
)
def test_who_is_preferred_to_several_is_told_once(others: int, expected: str) -> None:
    comparison = grid(others + 1, 40)
    wins = [36, *[37] * (others - 2), 38]
    ballots = [
        vote
        for other, won in enumerate(wins, 2)
        for vote in versus(comparison, 1, other, wins=won, of=40)
    ]
    found = read(comparison, [], ballots)
    (sentence,) = said(found, "clear")
    assert re.match(r"A is preferred " + expected, sentence), sentence


def test_a_measure_of_several_variants_is_one_sentence() -> None:
    comparison = named(grid(3, 12), "Teacher", "Asker", "Teller")
    found = read(comparison, asking(comparison, [2, 3] * 6, [4, 5, 5, 6] * 3, [0, 1] * 6))
    (sentence,) = [text for text in said(found, "clear") if "Questions" in text]
    assert (
        "Questions per answer: clearly higher for Asker at 5.0, clearly lower for Teller at 0.5"
        " than for Teacher at 2.5 (over 12 inputs)." == sentence
    )


def test_what_answers_are_like_is_told_before_what_they_cost() -> None:
    comparison = grid(2, 12)
    cells = [
        cell(
            f"{v}-{n}-1",
            f"Well {n}." + " What?" * (n % 3 + 4 * (v - 1)),
            cost=0.001 * v + n * 1e-7,
            checks={"polite": v == 1},
        )
        for v in (1, 2)
        for n in range(1, 13)
    ]
    found = read(comparison, cells)
    telling = [re.sub(r"^B (\w+) .*", r"\1", text) for text in said(found, "clear")]
    assert ["passes", "asks", "writes", "costs"] == telling
    assert ["Checks passed", "Questions per answer"] == [panel.title for panel in found.clear][:2]
    assert "Cost per answer" == found.clear[-1].title


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        ((0.001, 0.008), "B costs 8.0 times as much an answer as A: $0.0080 instead of $0.0010"),
        ((0.001, 0.0013), "B costs 30 % more an answer than A: $0.0013 instead of $0.0010"),
        ((0.002, 0.0005), "B costs 75 % less an answer than A: $0.00050 instead of $0.0020"),
        ((0.0, 0.0005), "B costs $0.00050 more an answer than A: each time"),
    ],
)
def test_costs_are_compared_as_people_do(costs: tuple[float, float], expected: str) -> None:
    comparison = grid(2, 12)
    cells = [
        cell(f"{v}-{n}-1", "Yes.", cost=cost)
        for v, cost in enumerate(costs, 1)
        for n in range(1, 13)
    ]
    assert [f"{expected}, over 12 inputs."] == said(read(comparison, cells), "clear")


def test_further_findings_are_folded_away_and_warnings_never() -> None:
    comparison = grid(2, 12)
    spoken = ["Well. ", "Well. What? What? And so on and so forth. "]
    cells = [
        cell(
            f"{v}-{n}-1",
            spoken[v - 1] * (n % 3 + 1),
            cost=0.001 * v,
            duration_ms=900.0 * v + n,
            checks={"polite": v == 1},
            finish_reason="length",
        )
        for v in (1, 2)
        for n in range(1, 13)
    ]
    found = read(comparison, cells, votes(comparison, 30, 3, inputs=12))
    assert ["clear"] * 5 + ["warning"] == [sentence.kind for sentence in found.leading]
    assert found.further
    assert {*found.sentences} == {*found.leading, *found.further}
    assert ("costs" in found.further[-1].text) is True
    assert "more finding" in rendered(found)


def test_figures_stay_on_their_line() -> None:
    (sentence,) = read(grid(2, 40), [], votes(grid(2, 40), 30, 10, inputs=40)).sentences[1:2]
    assert [("75 %", True), ("[51–91]", True)] == [piece for piece in sentence.pieces if piece[1]]
    assert sentence.text == "".join(text for text, _ in sentence.pieces)


def test_recorded_answers_go_by_a_name_in_the_readers_language() -> None:
    comparison = grid(2, 12)
    recorded = replace(comparison.variants[0], name="As recorded", is_recorded=True)
    comparison = replace(comparison, variants=(recorded, comparison.variants[1]))
    assert "As recorded" == read(comparison, []).variants[0].name
    cells = asking(comparison, [1, 2] * 6, [3, 5] * 6)
    assert any("than what was recorded" in text for text in said(read(comparison, cells)))
    chinese = translator("zh")
    assert chinese.gettext("As recorded") == read(comparison, [], language="zh").variants[0].name


def test_names_that_hide_something_are_shown_as_they_are() -> None:
    comparison = named(grid(2, 1), "Teacher\u202e", "100 %(name)s")
    found = read(comparison, [], votes(comparison, 1, 0))
    assert ["Teacher⟨U+202E⟩", "100 %(name)s"] == [who.name for who in found.variants]
    assert "Teacher⟨U+202E⟩ or 100 %(name)s? Not clear yet" in said(found)[1]


def test_shares_against_several_are_joined_as_each_language_joins_phrases() -> None:
    comparison = grid(3, 4)
    ballots = [
        ballot(comparison, f"1-{n}-1", f"{other}-{n}-1", "left") for n in (1, 2) for other in (2, 3)
    ]
    english, chinese = (said(read(comparison, [], ballots, language=code)) for code in ("en", "zh"))
    assert any("] against B and 8" in text for text in english)
    assert any(re.search(r"对 B 为 8[^和]*]，对 C 为 8", text) for text in chinese)


def test_an_only_answer_is_called_no_repeat() -> None:
    comparison = grid(2, 1)
    cells = [cell(f"{v}-1-1", "Yes.", checks={"kind": v == 1}) for v in (1, 2)]
    (line,) = read(comparison, cells).checks
    assert [("100 %", "1 answer"), ("0 %", "1 answer")] == [
        (value, basis) for value, _, basis in line.shares
    ]


def test_tags_and_inputs_have_findings_of_their_own() -> None:
    comparison = replace(
        grid(2, 20),
        inputs=tuple(
            ComparisonInput((f"Why {n}?",), tags=("easy",) if n < 10 else ("hard",))
            for n in range(20)
        ),
    )
    cells = asking(comparison, [2, 3] * 10, [0, 1] * 5 + [2, 3] * 5)
    found = read(comparison, cells, votes(comparison, 20, 4, inputs=20))
    easy, hard = found.tags
    assert ("easy", 10) == (easy.tag, easy.inputs)
    assert any("B asks 2.0 fewer questions" in s.text for s in easy.sentences)
    assert not any("questions" in s.text for s in hard.sentences)
    assert any("blind votes" in s.text for s in hard.sentences)
    assert 20 == len(found.inputs)
    assert 24 == sum(sum(line.wins) for line in found.inputs)
    assert "1. Why 0?" == found.inputs[0].label


def test_a_difference_that_is_clear_never_seems_to_reach_zero() -> None:
    comparison = grid(2, 3)
    cost = {1: (1.0, 1.0, 1.0), 2: (1.0301, 1.0100, 1.0200)}
    cells = [
        cell(f"{v}-{n}-1", "Yes.", cost=value)
        for v, values in cost.items()
        for n, value in enumerate(values, 1)
    ]
    found = read(comparison, cells)
    assert not any("[0.00–" in text for text in said(found))
    assert not any(re.search(r"\[0(\.0+)?–", text) for text in said(found, "clear"))


def test_nothing_answered_yet_is_said_and_nothing_else_is_shown() -> None:
    found = read(grid(2, 3), [])
    assert ["Nothing has been answered yet."] == said(found)
    assert found.is_empty
    html = rendered(found, vote_link="/vote")
    assert "Nothing has been answered yet." in html
    assert "<svg" not in html
    assert "/vote" not in html


def test_the_page_needs_no_application_and_runs_nothing() -> None:
    comparison = named(grid(3, 12), "Teacher", "<b>Bold</b>", "知心朋友")
    cells = [
        cell(str(key), SAID[key.variant] * (key.input + 1), cost=0.1, checks={"<i>": True})
        for key in comparison.cell_keys()
    ]
    html = rendered(read(comparison, cells, votes(comparison, 20, 4, inputs=12)))
    assert "&lt;b&gt;Bold&lt;/b&gt;" in html
    assert not re.search(r"<b>|<i>|<script|style=|href=|\bon\w+=", html)
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'aria-labelledby="([^" ]+)', html)) <= set(ids)


def test_it_invites_to_vote_where_nobody_has() -> None:
    comparison = grid(2, 3)
    cells = asking(comparison, [1, 2, 3], [0, 1, 1])
    assert 'href="/vote"' in rendered(read(comparison, cells), vote_link="/vote")
    voted = read(comparison, cells, votes(comparison, 2, 1, inputs=3))
    assert 'href="/vote"' not in rendered(voted, vote_link="/vote")
