"""YAML files as people write them, in every style, with comments whose places are known."""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from rolebook.library.yaml_text import is_fit_for_block, write_block, write_flow, write_scalar

TEXTS = [
    *("", " ", "  x", "x  ", "x \ny", "x\n", "x\n\n", "\n", "\nx", "x\n\n  y", "x\n   \ny", "\tx", "x\ny"),
    *("x\r\ny", "x\x85y", "x\u2028y", "no", "1.10", "~", "a: b", "x #y", "#x", "-", "- x", "it's", '"x"'),
    *("[x]", "{{ x }}", "key：x", "🎓\n老师：\n", "one\ntwo\nthree\n", "two words", "0.70", "中文，标点"),
    "A sentence that goes on and on, with commas: and colons, until it is longer than a line of a file ought to be.",
]  # fmt: skip
KEYS = [*"abcdef", "名字", "x y", "1"]

texts = st.sampled_from(TEXTS)
values = st.recursive(
    st.none() | texts,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=8,
)
mappings = st.dictionaries(st.sampled_from(KEYS), values, min_size=1, max_size=5)


@dataclass(frozen=True)
class Source:
    """A file: what stands above its first key, its keys, each with its lines, and what stands at its end."""

    head: str
    entries: dict[str, str]
    tail: str
    line_break: str = "\n"

    @property
    def text(self) -> str:
        return self.lined(self.head + "".join(self.entries.values()) + self.tail)

    def around(self, key: str) -> tuple[str, str]:
        """What stands before the lines of a key, and behind them."""
        position = list(self.entries).index(key)
        lines = list(self.entries.values())
        before = self.head + "".join(lines[:position])
        behind = "".join(lines[position + 1 :]) + self.tail
        return self.lined(before), self.lined(behind)

    def lined(self, text: str) -> str:
        return text.replace("\n", self.line_break)


def comments_in(text: str) -> list[str]:
    """The comments of a source, each of which stands in it once."""
    return re.findall(r"# c\d+\b", text)


@st.composite
def sources(draw: DrawFn) -> Source:
    """A file, and its data is whatever it is read as."""
    data = draw(mappings)
    # Drawn one by one, the many styles of a file would take most of the time.
    writer = _Writer(Random(draw(st.integers(0, 2**32))))
    head = draw(st.sampled_from(["", "# head\n", "---\n", "\ufeff", "# head\n\n"]))
    entries = {key: writer.entry(key, data[key], 0) for key in data}
    tail = draw(st.sampled_from(["", "", "# tail\n", "\n# tail", "...\n"]))
    line_break = draw(st.sampled_from(["\n", "\n", "\n", "\r\n", "\r"]))
    return Source(head, entries, tail, line_break)


class _Writer:
    """Writes values in random styles."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._comments = 0

    def _one_of(self, *choices: Any) -> Any:
        return self._random.choice(choices)

    def _comment(self) -> str:
        self._comments += 1
        return f"# c{self._comments}"

    def _comment_or_none(self) -> str:
        return f"  {self._comment()}" if self._one_of(False, False, True) else ""

    def entry(self, key: str, value: Any, indent: int) -> str:
        """A key with its value, the comment on its line and perhaps one above."""
        return (
            self._lead(indent) + " " * indent + self._scalar(key) + ":" + self._after(value, indent)
        )

    def _lead(self, indent: int) -> str:
        margin = " " * indent
        return "".join(
            self._one_of("\n", f"{margin}{self._comment()}\n", "   \n")
            for _ in range(self._one_of(0, 0, 0, 1, 2))
        )

    def _scalar(self, value: Any) -> str:
        return "~" if value is None else write_scalar(value, quote=self._one_of("", "'", '"'))

    def _after(self, value: Any, indent: int, *, is_item: bool = False) -> str:
        """What follows a colon or a dash, up to the end of the last line."""
        if isinstance(value, dict | list) and value and self._one_of(True, True, False):
            if is_item and self._one_of(True, False):
                return self._compact(value, indent)
            least = 0 if isinstance(value, list) and not is_item else 1
            inner = indent + self._one_of(least, 1, 2, 4)
            return f"{self._comment_or_none()}\n{self._block(value, inner)}"
        if isinstance(value, str) and is_fit_for_block(value) and self._one_of(True, False):
            header, lines = write_block(value, indent=indent + self._one_of(1, 2, 4)).split("\n", 1)
            return f"{header}{self._comment_or_none()}\n{lines}\n"
        written = self._flow(value) if isinstance(value, dict | list) else self._scalar(value)
        if value is None and self._one_of(True, False):
            written = ""
        return f"{self._one_of(' ', '  ')}{written}{self._comment_or_none()}\n"

    def _block(self, value: Any, indent: int) -> str:
        if isinstance(value, dict):
            return "".join(self.entry(key, item, indent) for key, item in value.items())
        margin = " " * indent
        return "".join(
            f"{self._lead(indent)}{margin}-{self._after(item, indent, is_item=True)}"
            for item in value
        )

    def _compact(self, value: Any, indent: int) -> str:
        """A mapping or list that begins on the line of its dash."""
        blanks = self._one_of(" ", "   ")
        inner = indent + 1 + len(blanks)
        items = value.items() if isinstance(value, dict) else enumerate(value)
        lines = ""
        for position, (key, item) in enumerate(items):
            lines += self._lead(inner) + " " * inner if position else blanks
            if isinstance(value, dict):
                lines += f"{self._scalar(key)}:{self._after(item, inner)}"
            else:
                lines += f"-{self._after(item, inner, is_item=True)}"
        return lines

    def _flow(self, value: Any) -> str:
        """In brackets, on one line or on several with comments."""
        is_long = self._one_of(False, False, True)

        def gap() -> str:
            if is_long:
                return str(self._one_of(" ", "\n      ", f"  {self._comment()}\n      "))
            return str(self._one_of("", " "))

        def written(value: Any) -> str:
            if isinstance(value, dict) and value:
                items = [f"{write_flow(key)}: {written(item)}" for key, item in value.items()]
                return "{" + gap() + joined(items) + gap() + "}"
            if isinstance(value, list) and value:
                return "[" + gap() + joined([written(item) for item in value]) + gap() + "]"
            return "~" if value is None else write_flow(value, quote=self._one_of("", "'", '"'))

        def joined(items: list[str]) -> str:
            text = items[0] + "".join(f",{gap() or ' '}{item}" for item in items[1:])
            return text + str(self._one_of("", "", ","))

        return written(value)
