"""A comparison as a Markdown report: what was found, the numbers, the answers under each other, and the plan."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from rolebook import __version__
from rolebook.core.comparison import Cell, CellKey, ComparisonInput
from rolebook.core.session import Turn, TurnStatus
from rolebook.language.translator import Translator
from rolebook.report.chart.axis import UNKNOWN
from rolebook.report.evidence import Against, CheckLine, Findings, Panel, ReasonLine
from rolebook.report.money import money
from rolebook.report.presentation import call_text, seconds, variant_name
from rolebook.report.snapshot import FORMAT_VERSION, Snapshot
from rolebook.report.visible import visible
from rolebook.storage.encoding import encode_json, show_text

_PLAN = "json rolebook-comparison"
#: The plan in a file: it is the last thing there, whatever answers before it look like. Other programs, git among
#: them, end lines with CRLF.
PLAN_IN_MARKDOWN = re.compile(
    rf"\A.*^`{{3,}}{_PLAN}\r?\n(.*)^`{{3,}}\s*\Z", re.MULTILINE | re.DOTALL
)
_SPECIAL = re.compile(r"([\\`*_{}\[\]#|~&<>$])")


def export_markdown(snapshot: Snapshot, translator: Translator) -> Iterator[str]:
    """The report, piece by piece, in the translator's language."""
    report = _Report(snapshot, translator)
    yield from map(show_text, report.pieces())


class _Report:
    def __init__(self, snapshot: Snapshot, translator: Translator) -> None:
        self._snapshot = snapshot
        self._comparison = snapshot.comparison
        self._translator = translator
        self._names = [
            _inline(variant_name(variant, translator)) for variant in self._comparison.variants
        ]

    def pieces(self) -> Iterator[str]:
        found = self._snapshot.findings(self._translator)
        yield self._head()
        yield self._findings(found)
        yield self._measures(found)
        yield self._differences(found)
        yield self._checks(found)
        yield self._reasons(found)
        yield self._tags(found)
        yield self._votes(found)
        yield self._variants()
        yield _heading(2, self._translator.gettext("Inputs and answers"))
        for index in range(len(self._comparison.inputs)):
            yield self._input(index)
        yield self._plan()

    def _head(self) -> str:
        _, comparison = self._translator.gettext, self._comparison
        progress = self._snapshot.progress
        facts = {
            _("Comparison"): comparison.id,
            _("Planned"): comparison.created_at,
            _("Exported"): self._snapshot.taken_at,
            _("Answered cells"): f"{progress['complete']} / {progress['total']}",
            _("Failed cells"): str(progress["failed"] or ""),
            _("Stopped cells"): str(progress["stopped"] or ""),
            _("Running cells"): str(progress["running"] or ""),
            _("Checks not made yet"): str(progress["unchecked"] or ""),
            _("Rubrics not judged"): str(progress["unjudged"] or ""),
            _("Broken off"): " ".join(
                _inline(self._translator.say(each.said.message, each.said.parameters))
                for each in self._snapshot.breaks
            ),
            _("Repeats"): str(comparison.repeats),
            _("Repeats the comparison"): comparison.repeats_of,
            _("Checks"): self._translator.punctuation.listing.join(
                _inline(check.label) for check in comparison.checks
            ),
            _("Judge"): self._judge(),
            "Rolebook": f"{__version__} ({_('format')} {FORMAT_VERSION})",
        }
        return f"# {_inline(comparison.question) or _('Comparison')}\n\n" + self._list(facts)

    def _list(self, facts: Mapping[str, str]) -> str:
        colon = self._translator.punctuation.colon
        return "".join(f"- {name}{colon}{value}\n" for name, value in facts.items() if value)

    def _judge(self) -> str:
        judge = self._comparison.judge
        if judge is None:
            return ""
        return " · ".join(
            _inline(part)
            for part in (judge.persona_id, judge.revision, judge.model, judge.upstream)
            if part
        )

    def _findings(self, found: Findings) -> str:
        sentences = "".join(f"- {_inline(sentence.text)}\n" for sentence in found.sentences)
        return _heading(2, self._translator.gettext("What it shows")) + sentences

    def _measures(self, found: Findings) -> str:
        panels = (*found.clear, *found.unclear)
        if not panels:
            return ""
        rows = [(_inline(panel.title), *_values(panel)) for panel in panels]
        note = self._translator.gettext("In brackets: 95 % interval.")
        return (
            _heading(2, self._translator.gettext("Measures"))
            + _table((self._translator.gettext("Measure"), *self._names), rows)
            + f"\n{note}\n"
        )

    def _differences(self, found: Findings) -> str:
        """The number to look at: by how much each variant differs from the first one, in bold where that is clear."""
        panels = [panel for panel in (*found.clear, *found.unclear) if panel.against]
        if not panels:
            return ""
        rows = [
            (_inline(panel.title), *(_difference(line) for line in panel.against))
            for panel in panels
        ]
        say = self._translator.say
        title = _inline(say("Against %(first)s", {"first": found.first}))
        note = self._translator.gettext("In brackets: 95 % interval. Bold: clear.")
        names = [_inline(line.who.name) for line in panels[0].against]
        headings = self._translator.gettext("Measure"), *names
        return _heading(2, title) + _table(headings, rows) + f"\n{note}\n"

    def _tags(self, found: Findings) -> str:
        if not found.tags:
            return ""
        parts = [_heading(2, self._translator.gettext("By tag"))]
        for entry in found.tags:
            inputs = self._translator.ngettext("%(num)s input", "%(num)s inputs", entry.inputs)
            parts += [
                _heading(3, f"{_inline(f'#{entry.tag}')} · {inputs % {'num': entry.inputs}}"),
                *(f"- {_inline(sentence.text)}\n" for sentence in entry.sentences),
            ]
        return "".join(parts)

    def _checks(self, found: Findings) -> str:
        _ = self._translator.gettext
        return self._shares(_("Checks passed"), _("Check"), found.checks)

    def _reasons(self, found: Findings) -> str:
        _ = self._translator.gettext
        return self._shares(_("Why answers ended"), _("Finish reason"), found.reasons)

    def _shares(
        self, title: str, heading: str, lines: Sequence[CheckLine] | Sequence[ReasonLine]
    ) -> str:
        """A table of what share of each variant's answers each line tells of; nothing of none."""
        if not lines:
            return ""
        rows = [
            (
                _inline(line.label),
                *(_with_interval(share, between) for share, between, _ in line.shares),
            )
            for line in lines
        ]
        return _heading(2, title) + _table((heading, *self._names), rows)

    def _votes(self, found: Findings) -> str:
        if not self._snapshot.votes:
            return ""
        _ = self._translator.gettext
        outcomes = {"tie": _("tie"), "both_bad": _("both bad")}
        rows = []
        for ballot in self._snapshot.votes:
            left, right = (self._cell_name(key) for key in (ballot.left, ballot.right))
            won = {"left": left, "right": right, **outcomes}[str(ballot.outcome)]
            rows.append((str(ballot.left.input + 1), left, right, won, ballot.voted_at))
        headings = _("Input"), _("Left"), _("Right"), _("Vote"), _("Date")
        return _heading(2, _("Votes")) + _table(headings, rows)

    def _cell_name(self, key: CellKey) -> str:
        name = self._names[key.variant]
        if self._comparison.repeats == 1:
            return name
        repeat = self._translator.say("repeat %(number)s", {"number": key.repeat + 1})
        return f"{name}{self._translator.punctuation.comma}{repeat}"

    def _variants(self) -> str:
        parts = [_heading(2, self._translator.gettext("Variants"))]
        for index, name in enumerate(self._names):
            parts += [_heading(3, name), self._variant(index)]
        return "".join(parts)

    def _variant(self, index: int) -> str:
        _, variant = self._translator.gettext, self._comparison.variants[index]
        revisions, conduct = self._snapshot.revisions_of(index), self._snapshot.conduct_of(index)
        facts = {
            _("Persona"): ", ".join(map(_inline, self._snapshot.personas_of(index))),
            _("Revision"): ", ".join(variant.revisions),
            _("Model asked for"): _inline(", ".join(conduct.models_requested) or variant.model),
            _("Model that answered"): _inline(", ".join(conduct.models)),
            _("Upstream"): _inline(", ".join(conduct.upstreams) or variant.upstream),
            _("Parameters asked for"): _codes(conduct.parameters_requested),
            _("Parameters sent"): _codes(conduct.parameters_sent),
            _("Variables"): _codes([variant.variables] if variant.variables else ()),
        }
        systems = dict.fromkeys(str(revision.resolved.get("system", "")) for revision in revisions)
        return self._list(facts) + "".join("\n" + _fenced(system) for system in systems)

    def _input(self, index: int) -> str:
        entry = self._comparison.inputs[index]
        parts = [_heading(3, f"{index + 1}. {_inline(entry.name)}".rstrip(". "))]
        facts = {
            self._translator.gettext("Tags"): _inline(", ".join(entry.tags)),
            self._translator.gettext("Variables"): _codes(
                [entry.variables] if entry.variables else ()
            ),
            self._translator.gettext("Session"): entry.source,
        }
        parts.append(self._list(facts))
        parts += self._history(entry)
        if entry.reference:
            parts.append(
                f"\n{self._translator.gettext('Reference:')}\n\n{_fenced(entry.reference)}"
            )
        for number, text in enumerate(entry.turns):
            parts.append(f"\n{_quoted(text)}")
            parts += self._answers(index, number)
        return "".join(parts)

    def _history(self, entry: ComparisonInput) -> Iterator[str]:
        for turn in self._snapshot.history_of(entry):
            yield f"\n{_quoted(turn.input)}\n{_fenced(turn.text)}"

    def _answers(self, index: int, number: int) -> Iterator[str]:
        for repeat in range(self._comparison.repeats):
            for variant in range(len(self._comparison.variants)):
                key = CellKey(variant, index, repeat)
                if not self._comparison.has(key):
                    continue
                cell = self._snapshot.cells.get(key)
                yield _heading(4, self._cell_name(key))
                if cell and number < len(cell.turns):
                    yield self._answer(cell, cell.turns[number])
                else:
                    yield f"{self._translator.gettext('No answer yet.')}\n"

    def _answer(self, cell: Cell, turn: Turn) -> str:
        error = f"{_inline(self._translator.turn_error(turn.error))}\n\n" if turn.error else ""
        return self._said(turn) + error + self._list(self._facts(cell, turn))

    def _said(self, turn: Turn) -> str:
        _ = self._translator.gettext
        parts = [_fenced(turn.text)] if turn.text else []
        if turn.choice.refusal:
            parts.append(f"{_('The model refuses:')}\n\n{_fenced(turn.choice.refusal)}")
        for call in turn.choice.tool_calls:
            heading = _("It asks for a tool, and Rolebook has none:")
            parts.append(f"{heading}\n\n{_fenced(call_text(call))}")
        if not parts and turn.status is TurnStatus.COMPLETE:
            parts.append(f"{_('It answered nothing.')}\n")
        return "".join(f"{part}\n" for part in parts)

    def _facts(self, cell: Cell, turn: Turn) -> dict[str, str]:
        _, language = self._translator.gettext, self._translator.language
        tokens = turn.usage.completion_tokens
        numbers = [
            turn.id,
            turn.status.value,
            _inline(turn.choice.finish_reason or ""),
            "" if turn.duration_ms is None else seconds(turn.duration_ms, language),
            "" if tokens is None else f"{tokens} {_('tokens')}",
            "" if turn.cost is None else _inline(money(turn.cost)),
            *(
                _inline(self._translator.say(each.message, each.parameters))
                for each in turn.adaptations
                if "stand_in" in each.parameters
            ),
            _("taken from the log") if cell.is_reused else "",
        ]
        return {
            _("Turn"): " · ".join(filter(None, numbers)),
            _("Session"): cell.session_id,
            _("Checks"): "; ".join(
                f"{_SIGNS[result.has_passed]} {_inline(result.label)}{self._translator.punctuation.colon}"
                + _inline(self._translator.say(result.said.message, result.said.parameters))
                for result in cell.results.get(turn.id, ())
            ),
            _("Mark"): self._mark(turn),
        }

    def _mark(self, turn: Turn) -> str:
        mark = self._snapshot.marks.get(turn.id)
        if mark is None:
            return ""
        signs = ("★" if mark.is_starred else "", _THUMBS[mark.thumb], _inline(mark.note))
        return " ".join(filter(None, signs))

    def _plan(self) -> str:
        _ = self._translator.gettext
        told = _("Do it again with: %(command)s") % {"command": "`rolebook compare --repeat FILE`"}
        return f"{_heading(2, _('The plan'))}{told}\n\n" + _fenced(self._snapshot.plan_text, _PLAN)


_SIGNS = {True: "✓", False: "✗", None: "?"}
_THUMBS = {1: "👍", 0: "", -1: "👎"}


def _values(panel: Panel) -> Sequence[str]:
    """What each variant has, with its interval."""
    return [_with_interval(row.text, row.interval_text) for row in panel.chart.rows]


def _difference(line: Against) -> str:
    has_interval = line.interval not in ("", UNKNOWN)
    said = _with_interval(line.value, line.interval if has_interval else "")
    return f"**{said}**" if line.is_clear else said


def _with_interval(value: str, interval: str) -> str:
    return _inline(f"{value} [{interval}]" if interval else value)


def _heading(level: int, text: str) -> str:
    return f"\n{'#' * level} {text}\n\n"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _quoted(text: str) -> str:
    """What a person said, as a quotation; nothing in it is Markdown."""
    return "".join(f"> {line}\n" for line in _fenced(text).splitlines())


def _fenced(text: str, info: str = "text") -> str:
    """A text as it is, between fences that are longer than any row of backticks in it."""
    shown = visible(text)
    fence = "`" * max(3, _longest_ticks(shown) + 1)
    return f"{fence}{info}\n{shown}\n{fence}\n"


def _longest_ticks(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)


def _codes(sets: Iterable[Mapping[str, object]]) -> str:
    """Parameters as JSON, each set in a code span."""
    return ", ".join(_code(encode_json(each)) for each in sets)


def _code(text: str) -> str:
    shown = visible(text)
    mark = "`" * (_longest_ticks(shown) + 1)
    return f"{mark}{shown}{mark}"


def _inline(text: str) -> str:
    """A text on one line, in which nothing is Markdown."""
    return _SPECIAL.sub(r"\\\1", " ".join(visible(text).split()))
