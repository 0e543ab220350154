"""Charts: their geometry by numbers, what the macros write, and what a browser makes of it."""

from __future__ import annotations

import random
import re
import statistics
from collections.abc import Sequence
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from jinja2 import Environment, FileSystemLoader

import rolebook.web
from rolebook.language.translator import translator
from rolebook.report import PAGES, STATIC
from rolebook.report.chart.axis import (
    CELL_PX,
    DOLLARS,
    NARROW_PX,
    NUMBER,
    PERCENT,
    SECONDS,
    SHARES,
    TICK_CELL_PX,
    WIDE_PX,
    Mark,
    Unit,
    cells,
    make_axis,
    shortened,
)
from rolebook.report.chart.distribution import BARS_PX, Sample, distribution_chart, quartiles
from rolebook.report.chart.interval import interval_chart
from rolebook.report.chart.matrix import Duel, MatrixChart, matrix_chart
from rolebook.report.chart.scatter import (
    SCATTER_MARGIN_PX,
    SCATTER_PX,
    Box,
    ScatterChart,
    scatter_chart,
)
from tests.conftest import NewPage
from tests.web.checks import assert_accessible

BASE = Path(rolebook.web.__file__).parent / "static/base.css"
NAMES = [
    "Teacher",
    "知心朋友",
    "<script>alert(1)</script>",
    "面试官：技术面试，一次只问一个问题，不给提示，直到最后才评价你的回答",
    "A persona whose name is sixty letters long, all of them used",
    "Strict & 'quoted' \"teacher\"",
    "Plain",
    "WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW",
]
VALUES = [
    [],
    [0.0],
    [5.0, 5.0],
    [-5.0],
    [-3.0, 2.0],
    [61.0, 84.0, 131.0],
    [480.0, 500.0],
    [1e-7, 3e-7],
    [1e-7, 4.2],
    [3.0, 12_000_000.0],
    [1.0, 1.0 + 1e-12],
    [0.1, 0.2, 0.3],
]


def mark(label: str, *numbers: float, n: int = 24, is_small: bool = False) -> Mark:
    """A mark with value, low and high; or with a value alone; or unknown."""
    value, low, high = (*numbers, None, None, None)[:3]
    return Mark(label, "hue-3", value, low, high, n, is_small)


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("unit", [NUMBER, SECONDS, DOLLARS])
def test_ticks_are_round_cover_all_and_do_not_touch(values: list[float], unit: Unit) -> None:
    axis = make_axis(values, unit)
    assert all(axis.low <= value <= axis.high * (1 + 1e-9) for value in values)
    mantissa = f"{axis.step:.6e}"
    assert mantissa[:8] in {"1.000000", "2.000000", "5.000000"}
    texts = [tick.text for tick in axis.ticks]
    assert 2 <= len(texts) == len(set(texts)) <= 8
    for left, right in pairwise(axis.ticks):
        assert right.value - left.value == pytest.approx(axis.step)
        widths = [cells(tick.text) * TICK_CELL_PX for tick in (left, right)]
        shares = [{"start": 1.0, "middle": 0.5, "end": 0.0}[left.anchor]]
        shares.append({"start": 0.0, "middle": 0.5, "end": 1.0}[right.anchor])
        between = (right.at - left.at) / 100 * NARROW_PX
        assert between > widths[0] * shares[0] + widths[1] * shares[1]


def test_long_numbers_get_fewer_ticks() -> None:
    short = make_axis([0, 0.9], Unit("${}"))
    long = make_axis([0, 0.9], Unit("{} hundred thousand"))
    assert len(long.ticks) < len(short.ticks)


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        ([61, 84, 131], 0, 150),
        ([480, 500], 480, 500),
        ([-3, 2], -3, 2),
        ([5, 5], 0, 5),
        ([0], 0, 1),
        ([], 0, 1),
    ],
)
def test_an_axis_begins_at_zero_unless_all_lie_far_from_it(
    values: list[float], low: float, high: float
) -> None:
    axis = make_axis(values)
    assert (axis.low, axis.high) == (low, high)


def test_shares_are_shown_on_the_whole_scale() -> None:
    axis = make_axis([0.6, 0.7], PERCENT, bounds=SHARES)
    assert [tick.text for tick in axis.ticks] == ["0 %", "20 %", "40 %", "60 %", "80 %", "100 %"]
    assert [tick.at for tick in axis.ticks] == pytest.approx([0, 20, 40, 60, 80, 100])
    assert [tick.anchor for tick in axis.ticks][:: len(axis.ticks) - 1] == ["start", "end"]


@pytest.mark.parametrize(
    ("unit", "others", "value", "text"),
    [
        (NUMBER, [0, 150], 84.27, "84"),
        (NUMBER, [0, 6], 2.345, "2.3"),
        (NUMBER, [0, 9000], 1234.5, "1,234"),
        (NUMBER, [-9, 9], -3.0, "−3.0"),
        (SECONDS, [0, 2500], 912.4, "0.91 s"),
        (DOLLARS, [0, 0.0015], 0.000214, "$0.00021"),
        (DOLLARS, [0, 4.2], 1e-7, "$0.00000010"),
        (PERCENT, [0, 1], 0.684, "68 %"),
        (PERCENT, [0, 1], None, "–"),
        (NUMBER, [0, 150], 0.0, "0"),
    ],
)
def test_numbers_have_units_and_as_many_digits_as_tell_something(
    unit: Unit, others: list[float], value: float | None, text: str
) -> None:
    assert make_axis(others, unit).text(value) == text


def test_a_dot_lies_where_the_scale_says_inside_its_interval() -> None:
    drawn = interval_chart([mark("a", 84, 61, 107), mark("b", 131, 118, 144)], reference=75)
    assert (drawn.axis.low, drawn.axis.high) == (0, 150)
    first, second = drawn.rows
    assert (first.low_x, first.x, first.high_x) == pytest.approx((61 / 1.5, 56, 107 / 1.5))
    assert (second.low_x, second.x, second.high_x) == pytest.approx((118 / 1.5, 131 / 1.5, 96))
    assert drawn.reference_x == pytest.approx(50)
    assert first.y < second.top < second.y < drawn.height
    assert (first.text, first.interval_text) == ("84", "61–107")


def test_what_is_unknown_has_no_dot_and_one_answer_no_interval() -> None:
    drawn = interval_chart([mark("unknown", n=0), mark("once", 3, n=1), mark("a", 2, 1, 3)])
    unknown, once, _ = drawn.rows
    assert (unknown.x, unknown.text, unknown.interval_text) == (None, "–", "")
    assert once.x is not None
    assert (once.low_x, once.high_x, once.interval_text) == (None, None, "")


@pytest.mark.parametrize(
    ("marks", "ends", "are_apart", "is_even"),
    [
        ([(84, 80, 88), (61, 52, 70)], ("b", "a"), True, False),
        ([(84, 60, 99), (61, 52, 70)], ("b", "a"), False, False),
        ([(84,), (61, 52, 70)], ("b", "a"), None, False),
        ([(5, 5, 5), (5, 4, 6)], (None, None), None, True),
        ([(5, 5, 5), ()], (None, None), None, False),
        ([], (None, None), None, False),
    ],
)
def test_the_finding_is_who_is_lowest_and_highest_and_whether_they_are_apart(
    marks: list[tuple[float, ...]],
    ends: tuple[str | None, str | None],
    are_apart: bool | None,
    is_even: bool,
) -> None:
    drawn = interval_chart([mark("ab"[index], *numbers) for index, numbers in enumerate(marks)])
    found = [row and row.mark.label for row in (drawn.lowest, drawn.highest)]
    assert (*found,) == ends
    assert (drawn.are_apart, drawn.is_even) == (are_apart, is_even)


@pytest.mark.parametrize("limit", [2, 8, 17, 200])
@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_cut_to_its_room_and_says_so(name: str, limit: int) -> None:
    cut = shortened(name, limit)
    assert cells(cut) <= limit
    assert cut == name or (cut.endswith("…") and name.startswith(cut[:-1]))


def matrix(*shares: Sequence[float | None], n: int = 10) -> MatrixChart:
    duels = [[None if share is None else Duel(share, n) for share in row] for row in shares]
    return matrix_chart([(name, "hue-1") for name in NAMES[: len(shares)]], duels)


def test_a_matrix_is_a_square_without_its_diagonal() -> None:
    drawn = matrix([None, 0.7, 1.0], [0.3, None, 0.5], [0.0, 0.5, None])
    assert [[cell.heat for cell in row.cells] for row in drawn.rows] == [
        [None, 7, 10],
        [3, None, 5],
        [0, 5, None],
    ]
    assert [row.cells[index].is_diagonal for index, row in enumerate(drawn.rows)] == [True] * 3
    for row in drawn.rows:
        assert row.cells[-1].x + row.cells[-1].width == pytest.approx(100)
        for left, right in pairwise(row.cells):
            assert left.x + left.width == pytest.approx(right.x)


def test_the_clearest_pair_is_not_one_vote() -> None:
    duels = [
        [None, Duel(1.0, 1), Duel(0.8, 40)],
        [Duel(0.0, 1), None, Duel(None, 0)],
        [Duel(0.2, 40), Duel(None, 0), None],
    ]
    clearest = matrix_chart([("a", ""), ("b", ""), ("c", "")], duels).clearest
    assert clearest is not None
    assert [part.name.whole for part in clearest[:2]] == ["a", "c"]
    assert matrix([None, 0.5], [0.5, None]).clearest is None
    assert matrix().clearest is None


def _boxes(drawn: ScatterChart, width_px: float, *, is_wide: bool) -> list[Box]:
    return [
        point.place.box(
            point.x / 100 * width_px,
            point.y,
            cells(point.name.wide if is_wide else point.name.narrow) * CELL_PX,
        )
        for point in drawn.points
    ]


def _crowd(seed: int) -> tuple[list[Mark], list[Mark]]:
    """Eight points that lie close together; for seed 0 in the same place, at the edge."""
    chance = random.Random(seed)
    spread = 0.3 if seed else 0.0
    xs = [mark(name, 1000 * (1 + spread * chance.random())) for name in NAMES]
    ys = [mark(name, min(1.0, 1 - spread * chance.random())) for name in NAMES]
    return xs, ys


@pytest.mark.parametrize("seed", range(6))
def test_labels_touch_neither_each_other_nor_points(seed: int) -> None:
    drawn = scatter_chart(*_crowd(seed), x_unit=SECONDS)
    for chart_px, is_wide in ((NARROW_PX, False), (WIDE_PX, True), (900, True)):
        plot_px = chart_px - SCATTER_MARGIN_PX
        boxes = _boxes(drawn, plot_px, is_wide=is_wide)
        assert not any(one.touches(other) for one, other in combinations(boxes, 2))
        assert all(box.left >= 0 and box.right <= plot_px for box in boxes)
        assert all(box.top >= 0 and box.bottom <= SCATTER_PX for box in boxes)
        for point, box in zip(drawn.points, boxes, strict=True):
            x = point.x / 100 * plot_px
            assert not box.touches(Box(x - 2, point.y - 2, x + 2, point.y + 2))


def test_a_point_lies_where_both_scales_say_and_up_is_more() -> None:
    drawn = scatter_chart(
        [mark("a", 900, 800, 1000), mark("b", 2000), mark("c")],
        [mark("a", 0.8, 0.7, 0.9), mark("b", 0.4), mark("c", 0.5)],
        x_unit=SECONDS,
    )
    first, second = drawn.points
    assert (first.x, second.x) == pytest.approx((45, 100))
    assert (first.y, second.y) == pytest.approx((SCATTER_PX * 0.2, SCATTER_PX * 0.6))
    assert first.x_interval == pytest.approx((40, 50))
    assert first.y_interval == pytest.approx((SCATTER_PX * 0.3, SCATTER_PX * 0.1))
    assert [row.name.whole for row in drawn.missing] == ["c"]
    assert drawn.best is first
    assert drawn.least is first


@pytest.mark.parametrize("values", [[1.0], [3, 1, 2, 10], [5.5, 5.5, 6], list(range(101))])
def test_quartiles_are_those_of_the_standard_library(values: list[float]) -> None:
    found = quartiles(values)
    assert found is not None
    expected = statistics.quantiles(values * 2 if len(values) == 1 else values, method="inclusive")
    assert found[1:4] == pytest.approx(expected)
    assert (found.least, found.most) == (min(values), max(values))


@pytest.mark.parametrize("values", [values for values in VALUES if values])
def test_every_value_is_in_one_bin_and_bins_are_shared(values: list[float]) -> None:
    drawn = distribution_chart([Sample("all", "", values), Sample("none", "", [])])
    full, empty = drawn.rows
    assert sum(bar.count for bar in full.bars) == len(values)
    assert len(full.bars) == len(empty.bars) == len(drawn.bins) <= 20
    assert empty.quartiles is None
    assert empty.text == "–"
    for bar in full.bars:
        assert bar.y + bar.height == pytest.approx(full.base)
        assert (bar.height > 0) == (bar.count > 0)
    assert max(bar.height for bar in full.bars) == pytest.approx(BARS_PX)


def render(call: str, **values: Any) -> str:
    """What a macro writes in an environment that knows nothing of the application."""
    pages = Environment(
        loader=FileSystemLoader(PAGES), autoescape=True, extensions=["jinja2.ext.i18n"]
    )
    pages.globals["punctuation"] = translator("en").punctuation
    pages.install_null_translations(newstyle=True)  # type: ignore[attr-defined]
    source = '{% import "charts.html" as charts with context %}' + call
    return pages.from_string(source).render(values)


def tables(html: str) -> list[list[list[str]]]:
    """The texts of all cells of all tables."""
    tree = ElementTree.fromstring(f"<div>{html}</div>")
    return [
        [["".join(cell.itertext()).strip() for cell in row] for row in table.iter("tr")]
        for table in tree.iter("table")
    ]


def _eight(*, unit: float, is_share: bool = False) -> list[Mark]:
    numbers = [(0.2 + index / 14) * unit for index in range(8)]
    width = 0.04 * unit
    marks = [
        Mark(name, f"hue-{index}", value, value - width, value + width, 24, index == 2)
        for index, (name, value) in enumerate(zip(NAMES, numbers, strict=True))
    ]
    alone, unknown = Mark(NAMES[6], "hue-6", numbers[6], n=1), Mark(NAMES[7], "hue-7", None)
    return marks if is_share else [*marks[:6], alone, unknown]


ALL_CHARTS = """\
<div class="charts">
{{ charts.intervals(words, id="words", title="Words per answer") }}
{{ charts.intervals(costs, id="costs", title="Cost") }}
{{ charts.strengths(strengths, id="strengths", title="Strength") }}
{{ charts.win_matrix(matrix, id="wins", title="Who wins against whom") }}
{{ charts.scatter(scatter, id="scatter", title="Cost and quality", x_title="Cost", y_title="Checks passed") }}
{{ charts.distribution(lengths, id="lengths", title="Length of answers") }}
{{ charts.intervals(nothing, id="nothing", title="Questions") }}
</div>"""


def all_charts() -> str:
    """Every chart, with eight variants."""
    shares = [
        [None if row == column else 0.1 * ((row * 3 + column * 7) % 11) for column in range(8)]
        for row in range(8)
    ]
    return render(
        ALL_CHARTS,
        words=interval_chart(_eight(unit=180)),
        costs=interval_chart(_eight(unit=2e-7), unit=DOLLARS),
        strengths=interval_chart(
            _eight(unit=1, is_share=True), unit=PERCENT, bounds=SHARES, reference=0.5
        ),
        matrix=matrix(*shares, n=120),
        scatter=scatter_chart(_eight(unit=0.002), _eight(unit=1, is_share=True), x_unit=DOLLARS),
        lengths=distribution_chart(
            [
                Sample(name, f"hue-{index}", range(20, 200, 9 + index))
                for index, name in enumerate(NAMES)
            ]
        ),
        nothing=interval_chart([]),
    )


def test_the_table_of_intervals_holds_every_number() -> None:
    marks = [
        mark("Teacher", 84, 61, 107),
        mark("Friend", 3, n=1, is_small=True),
        mark("Plain", n=0),
    ]
    html = render('{{ charts.intervals(chart, id="c", title="T") }}', chart=interval_chart(marks))
    assert tables(html) == [
        [
            ["Variant", "Value", "95 % interval", "Answers"],
            ["Teacher", "84", "61–107", "24"],
            ["Friend", "3.0", "–", "1 (few)"],
            ["Plain", "–", "–", "0"],
        ]
    ]
    assert "one answer" in html
    assert html.count('class="dot small"') == 1
    assert html.count('class="dot"') == 1


def test_the_table_of_a_matrix_holds_every_number() -> None:
    drawn = matrix([None, 0.684], [0.316, None], n=19)
    html = render('{{ charts.win_matrix(chart, id="c", title="T") }}', chart=drawn)
    assert tables(html) == [
        [
            ["Wins … against", *NAMES[:2]],
            [NAMES[0], "", "68 % (19)"],
            [NAMES[1], "32 % (19)", ""],
        ]
    ]
    assert "Clearest: Teacher against 知心朋友, 68 % of 19 votes." in html


def test_the_table_of_a_scatter_holds_those_that_are_not_drawn_too() -> None:
    drawn = scatter_chart(
        [mark("a", 900, 800, 1000), mark("b")], [mark("a", 0.8), mark("b", 0.5)], x_unit=SECONDS
    )
    call = '{{ charts.scatter(chart, id="c", title="T", x_title="Time", y_title="Liked") }}'
    html = render(call, chart=drawn)
    assert tables(html) == [
        [
            ["Variant", "Time", "95 % interval", "Liked", "95 % interval"],
            ["a", "0.90 s", "0.80–1.00", "80 %", "–"],
            ["b", "–", "–", "50 %", "–"],
        ]
    ]
    assert "Not drawn, as a number is unknown: b." in html


def test_the_tables_of_a_distribution_hold_quartiles_and_counts() -> None:
    drawn = distribution_chart([Sample("a", "", [1, 2, 3, 4, 9]), Sample("b", "", [])])
    html = render('{{ charts.distribution(chart, id="c", title="T") }}', chart=drawn)
    quartiles, counts = tables(html)
    assert quartiles[1:] == [["a", "5", "1.0", "2.0", "3.0", "4.0", "9.0"], ["b", "0", *"–––––"]]
    assert counts[0][1:] == ["0–1", "1–2", "2–3", "3–4", "4–5", "5–6", "6–7", "7–8", "8–9", "9–10"]
    assert counts[1][1:] == ["0", "1", "1", "1", "1", "0", "0", "0", "0", "1"]


@pytest.mark.parametrize("name", ["intervals", "strengths", "win_matrix", "distribution"])
def test_with_nothing_to_draw_a_chart_says_so(name: str) -> None:
    drawn = matrix() if name == "win_matrix" else interval_chart([])
    html = render(f'{{{{ charts.{name}(chart, id="c", title="T") }}}}', chart=drawn)
    assert "yet." in html
    assert "<svg" not in html


def test_charts_run_nothing_and_ask_for_nothing() -> None:
    html = all_charts()
    ElementTree.fromstring(html)
    assert not re.search(r"<script|\sstyle=|\son\w+=|href|src=|url\(|https?:", html)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    css = (STATIC / "chart.css").read_text("utf-8")
    assert not re.search(r"url\(|@import|</", css)


def test_every_id_is_there_once_and_names_the_picture() -> None:
    tree = ElementTree.fromstring(all_charts())
    ids = [element.get("id") for element in tree.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    pictures = [element for element in tree.iter("svg") if element.get("role") == "img"]
    assert len(pictures) == 6
    for picture in pictures:
        assert set((picture.get("aria-labelledby") or "").split()) <= set(ids)


def as_document(charts: str) -> str:
    """One page that needs no other file, as an export is."""
    sheets = (STATIC / "tokens.css", BASE, STATIC / "chart.css")
    css = "".join(sheet.read_text("utf-8") for sheet in sheets)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Charts</title>'
        '<meta name="viewport" content="width=device-width">'
        f"<style>{css}</style></head><body><main><h1>Charts</h1>{charts}</main></body></html>"
    )


@pytest.fixture
def open_charts(new_page: NewPage) -> Any:
    """Opens all charts with their tables in a browser."""

    def open_page(**keywords: Any) -> Any:
        page = new_page(**keywords)
        page.set_content(as_document(all_charts().replace("<details>", "<details open>")))
        return page

    return open_page


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 390)])
def test_axe_finds_nothing(open_charts: Any, theme: str, width: int) -> None:
    assert_accessible(open_charts(theme=theme, width=width))


#: Texts of one chart that lie on each other, or outside of the page, and the smallest letters.
_TEXTS = """() => {
  const found = {touching: [], outside: [], smallest: 99};
  for (const svg of document.querySelectorAll("svg[role=img]")) {
    const texts = [...svg.querySelectorAll("text")].filter(text => text.getClientRects().length);
    const boxes = texts.map(text => text.getBoundingClientRect());
    texts.forEach((text, one) => {
      found.smallest = Math.min(found.smallest, parseFloat(getComputedStyle(text).fontSize));
      const box = boxes[one];
      if (box.left < 0 || box.right > innerWidth) found.outside.push(text.textContent);
      for (let other = 0; other < one; other++) {
        const across = Math.min(box.right, boxes[other].right) - Math.max(box.left, boxes[other].left);
        const down = Math.min(box.bottom, boxes[other].bottom) - Math.max(box.top, boxes[other].top);
        if (across > 0.5 && down > 4) found.touching.push([texts[other].textContent, text.textContent]);
      }
    });
  }
  return found;
}"""


@pytest.mark.parametrize("width", [360, 390, 768, 1280])
def test_letters_can_be_read_at_any_width(open_charts: Any, width: int) -> None:
    page = open_charts(width=width)
    found = page.evaluate(_TEXTS)
    assert (found["touching"], found["outside"]) == ([], [])
    assert found["smallest"] >= 11
    assert page.evaluate("document.documentElement.scrollWidth") <= width


#: The contrast of every cell of the matrix with its number, by the formula of WCAG 2.
_CONTRASTS = """() => {
  const canvas = Object.assign(document.createElement("canvas"), {width: 1, height: 1});
  const context = canvas.getContext("2d", {willReadFrequently: true});
  const luminance = (colour) => {
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...context.getImageData(0, 0, 1, 1).data].map(value => value / 255)
      .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrasts = {};
  for (const cell of document.querySelectorAll("rect.cell")) {
    const texts = [...cell.parentNode.querySelectorAll("text")];
    const ground = luminance(getComputedStyle(cell).fill);
    contrasts[cell.classList[1]] = Math.min(...texts.map(text => {
      const [dark, light] = [ground, luminance(getComputedStyle(text).fill)].sort((a, b) => a - b);
      return (light + 0.05) / (dark + 0.05);
    }));
  }
  return contrasts;
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_numbers_stand_out_from_every_heat(open_charts: Any, theme: str) -> None:
    contrasts = open_charts(theme=theme).evaluate(_CONTRASTS)
    assert set(contrasts) == {f"heat-{heat}" for heat in range(11)}
    assert min(contrasts.values()) >= 4.5, contrasts
    assert len({round(contrast, 1) for contrast in contrasts.values()}) >= 10
