"""Where the values of a YAML text stand: which characters are theirs, which a comment's, and which lie between.

The positions are those of PyYAML's nodes, except for the ends of block values, which PyYAML puts behind the comments
that follow them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import yaml

from rolebook.core.frozen import frozen
from rolebook.library.yaml_text import compose_yaml

_LINE_BREAK = re.compile(r"\r\n|[\r\n]")
_BLOCK_HEADER = re.compile(r"[|>][0-9+-]*")
_BLANKS: Final = " \t"


@frozen
class Node:
    """A value: ``text[start:end]``, without what follows it on its last line.

    ``style`` is the character that a scalar begins with: a quote, ``|``, ``>``, or none. ``indent`` is that of the
    lines of a block text, or the column of the keys or dashes of a block.
    """

    start: int
    end: int
    style: str = ""
    is_flow: bool = False
    indent: int = 0
    children: tuple[Child, ...] = ()

    @property
    def is_block_text(self) -> bool:
        return self.style in {"|", ">"}

    @property
    def is_block(self) -> bool:
        """Whether it is a mapping or list whose entries have lines of their own."""
        return bool(self.children) and not self.is_flow


@frozen
class Child:
    """An entry of a mapping or a list. ``key_start`` and ``key_end`` are equal in a list.

    ``start`` is where its key, its ``?`` or its dash stands; ``head_end`` is behind its colon or dash, and -1 where it
    has a key alone, without a colon, or has its key behind a ``?``.
    """

    start: int
    key_start: int
    key_end: int
    head_end: int
    value: Node

    @property
    def end(self) -> int:
        """Where it ends, without what follows it on its last line."""
        return max(self.value.end, self.head_end, self.key_end)


def read_layout(text: str) -> Node:
    """The layout of a text that :func:`rolebook.library.yaml_text.parse_yaml` accepts."""
    return _Layout(text).root


class Lines:
    """The lines of a text, found by a position in them."""

    def __init__(self, text: str) -> None:
        self.text = text

    def start(self, index: int) -> int:
        """Where the line begins that ``index`` stands in."""
        return max(self.text.rfind("\n", 0, index), self.text.rfind("\r", 0, index)) + 1

    def end(self, index: int) -> int:
        """Where that line ends, before its line break."""
        match = _LINE_BREAK.search(self.text, index)
        return match.start() if match else len(self.text)

    def next(self, index: int) -> int:
        """Where the next line begins, or the text's end."""
        match = _LINE_BREAK.search(self.text, index)
        return match.end() if match else len(self.text)

    def between(self, start: int, end: int) -> Iterator[tuple[int, int, str]]:
        """The lines that begin in between: start, start of the next one, and their text without blanks around it."""
        while start < end:
            following = self.next(start)
            yield start, following, self.text[start:following].strip(_BLANKS + "\r\n")
            start = following

    def indent(self, start: int) -> int:
        """How many spaces the line has that begins at ``start``."""
        rest = self.text[start : self.end(start)]
        return len(rest) - len(rest.lstrip(" "))


class _Layout:
    def __init__(self, text: str) -> None:
        self._text = text
        self._lines = Lines(text)
        self.root = self._node(compose_yaml(text))

    def _node(self, node: yaml.Node) -> Node:
        start, end = node.start_mark.index, node.end_mark.index
        if isinstance(node, yaml.ScalarNode):
            if node.style in {"|", ">"}:
                return self._block_text(start, end, node.style)
            return Node(start, end, node.style or "")
        assert isinstance(node, yaml.CollectionNode)
        children = tuple(self._children(node))
        if node.flow_style or not children:
            return Node(start, end, is_flow=True, children=children)
        indent = start - self._lines.start(start)
        return Node(start, children[-1].end, indent=indent, children=children)

    def _block_text(self, start: int, end: int, style: str) -> Node:
        header = _BLOCK_HEADER.match(self._text, start)
        assert header is not None
        body = self._lines.next(start)
        lines = list(self._lines.between(body, end))
        indents = [self._lines.indent(line) for line, _, content in lines if content]
        indent = min(indents, default=0)
        if "+" not in header[0]:
            # Blank lines at its end are none of its own, unless they have more spaces than it is indented by.
            while lines and not lines[-1][2] and self._lines.indent(lines[-1][0]) <= indent:
                lines.pop()
        last = lines[-1][0] if lines else start
        return Node(start, self._lines.end(last), style, indent=indent)

    def _children(self, node: yaml.CollectionNode) -> Iterator[Child]:
        position = node.start_mark.index
        for item in node.value:
            if isinstance(node, yaml.MappingNode):
                child = self._entry(node, item, position)
            else:
                child = self._item(node, item, position)
            yield child
            position = child.end

    def _entry(
        self, parent: yaml.CollectionNode, pair: tuple[yaml.Node, yaml.Node], position: int
    ) -> Child:
        key, value = pair[0], self._node(pair[1])
        key_start, key_end = key.start_mark.index, key.end_mark.index
        colon = re.compile(r"[ \t]*:").match(self._text, key_end)
        start = key_start if parent.flow_style else self._start(parent, position)
        is_simple = colon is not None and start == key_start
        return Child(start, key_start, key_end, colon.end() if colon and is_simple else -1, value)

    def _item(self, parent: yaml.CollectionNode, item: yaml.Node, position: int) -> Child:
        value = self._node(item)
        if parent.flow_style:
            return Child(value.start, value.start, value.start, value.start, value)
        start = self._start(parent, position)
        return Child(start, start, start, start + 1, value)

    def _start(self, parent: yaml.CollectionNode, position: int) -> int:
        """Where the next entry of a block begins, behind ``position``: in its column, after comments."""
        first = parent.start_mark.index
        if position <= first:
            return first
        column = first - self._lines.start(first)
        for line, _, content in self._lines.between(self._lines.next(position), len(self._text)):
            if content and not content.startswith("#") and self._lines.indent(line) == column:
                return line + column
        raise AssertionError("a block's entry has no line")
