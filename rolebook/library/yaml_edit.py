"""Change what a YAML text says, and leave every line of it that says the same as before.

Comments, the order of keys, blank lines, quotes, indentation, line ends: what a change does not touch is not read and
written again, it is copied. Why this is not left to a library stands in docs/decisions/0012.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from itertools import accumulate, count, pairwise
from typing import Any, Final

from rolebook.core.frozen import frozen
from rolebook.library.yaml_brackets import Brackets, without_comments
from rolebook.library.yaml_change import Step, is_same, plan
from rolebook.library.yaml_layout import Child, Lines, Node, read_layout
from rolebook.library.yaml_text import (
    Path,
    YamlError,
    chomping,
    dump_yaml,
    is_fit_for_block,
    parse_yaml,
    write_block,
    write_flow,
    write_scalar,
    write_value,
)

Order = Callable[[Path], Sequence[str]]
"""The usual order of the keys in the mapping at a path; empty where names are free."""

_LONGEST_LINE: Final = 120
_LINE_BREAK = re.compile(r"\r\n|[\r\n]")
_HEADER_SIGNS = re.compile(r"[|>0-9+-]*")
_FOREIGN = re.compile(r"[^\s,]")
_FOLD = re.compile(r"(?<=\S) (?=\S)")
_UNFIT_FOR_FOLDING = re.compile(r"\A[ \t\n]|[ \t]\n*\Z")
_COLLECTIONS = (Mapping, list, tuple)


def edit_yaml(
    text: str, data: Mapping[str, Any], *, order: Order, typed: Container[Path] = ()
) -> str:
    """The text changed as little as possible so that it says ``data``.

    What is equal in both stays as it stands, with its comments. A new key is put where ``order`` has it, a key that is
    gone takes the comment on its line and those directly above along, items of a list move with theirs. The order of
    keys that are in both stays, whatever it is in ``data``, but for an :class:`InOrder`.

    Numbers and booleans in ``data`` are equal to texts that YAML 1.2 takes for them: ``0.70`` is not rewritten for 0.7.
    ``typed`` is as for :func:`parse_yaml`.

    Raises:
        YamlError: if the text cannot be read, or would become too large.
        ValueError: for a value that no YAML file can hold.
    """
    old = parse_yaml(text, file="", typed=typed).data
    if is_same(old, data):
        return text
    mark = len(text) - len(text.lstrip("\ufeff"))
    edited = _Edit(text[mark:], order).apply(old, data)
    if not _says(edited, data, typed):
        edited = _Edit(_tidied(text[mark:]), order).apply(old, data)
    written = parse_yaml(edited, file="", typed=typed).data
    assert is_same(written, data), "an edited text does not say what it should"
    return text[:mark] + edited


def _says(text: str, data: Mapping[str, Any], typed: Container[Path]) -> bool:
    try:
        return is_same(parse_yaml(text, file="", typed=typed).data, data)
    except YamlError:
        return False


def _tidied(text: str) -> str:
    """The text without what means something else when other lines stand before or behind it.

    Spaces in a blank line, and a comment that is indented further than the lines around it, could become part of a text
    above. A ``|`` in the last line of a file, where that has no end, would get one.
    """
    scalars = list(_scalars(read_layout(text)))
    if not text.endswith(("\n", "\r")):
        is_last = bool(scalars) and scalars[-1].end == len(text)
        start = scalars[-1].start if is_last else len(text)
        text = text[:start] + re.sub(r"\A([|>][0-9]?)[+-]?", r"\1-", text[start:]) + "\n"
    lines = Lines(text)
    inner = {
        line for node in scalars for line, _, _ in lines.between(lines.next(node.start), node.end)
    }
    found = list(lines.between(0, len(text)))
    indents = [
        lines.indent(line) if content and not content.startswith("#") and line not in inner else -1
        for line, _, content in found
    ]
    before = list(accumulate(indents, _known, initial=0))
    behind = list(accumulate(reversed(indents), _known, initial=0))[::-1]
    pieces = []
    for index, (line, following, content) in enumerate(found):
        if line in inner or indents[index] >= 0:
            pieces.append(text[line:following])
        else:
            most = max(before[index], behind[index])
            margin = " " * min(lines.indent(line), most) if content else ""
            pieces.append(margin + text[line:following].lstrip(" \t"))
    return "".join(pieces)


def _known(last: int, indent: int) -> int:
    return indent if indent >= 0 else last


def _scalars(node: Node) -> Iterator[Node]:
    if not node.children:
        yield node
    for child in node.children:
        yield from _scalars(child.value)


@frozen
class _Extent:
    """The lines of an entry of a block: ``gap`` is where nobody's lines before it begin, ``lead`` its own comments."""

    gap: int
    lead: int
    start: int
    end: int


class _Edit:
    def __init__(self, text: str, order: Order) -> None:
        self._text = text
        self._lines = Lines(text)
        self._order = order
        first = _LINE_BREAK.search(text)
        self._line_break = first[0] if first else "\n"
        # Stands behind a text that keeps its last line breaks: blank lines that follow would count among them.
        self._brink = next(chr(code) for code in count(0xF0000) if chr(code) not in text)

    def apply(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
        root = read_layout(self._text)
        if root.is_block and new:
            # What stands above the first key is about the file.
            start = self._lines.start(root.start)
            edited = self._block(root, old, new, (), (start, len(self._text)))
            blank_lines = rf"{self._brink}(?:[ \t]*(?:\r\n|[\r\n]))*"
            return self._text[:start] + re.sub(blank_lines, "", edited)
        is_kept = self._has_comment(root)
        written = self._flow(root, old, new, (), is_kept=is_kept) if old and new else None
        if written is None:
            written = self._lined(dump_yaml(new)).removesuffix(self._line_break)
        return self._text[: root.start] + written + self._text[root.end :]

    def _lined(self, written: str) -> str:
        """With the line ends of the file."""
        return written.replace("\n", self._line_break)

    # Blocks: entries with lines of their own

    def _block(self, node: Node, old: Any, new: Any, path: Path, region: tuple[int, int]) -> str:
        """The lines of a block between two positions, changed. They begin with their indentation."""
        extents = list(self._extents(node, region))
        items = list(old.items() if isinstance(old, Mapping) else enumerate(old))
        pieces: list[str] = []
        passed = 0
        for step in plan(old, new, self._order(path)):
            if step.source is None:
                pieces.append(self._new_entry(step, node.indent))
                continue
            extent = extents[step.source]
            if not step.is_moved:
                pieces += self._left_over(extents[passed : step.source])
                pieces.append(self._text[extent.gap : extent.lead])
                passed = step.source + 1
            is_inline = self._lines.start(extent.start) < extent.start
            pieces.append(
                self._text[extent.lead : extent.start]
                + " " * (node.indent if is_inline else 0)
                + self._entry(node, items[step.source], step, path, extent)
            )
        pieces += self._left_over(extents[passed:])
        return self._joined([*pieces, self._text[extents[-1].end : region[1]]])

    def _joined(self, pieces: Sequence[str]) -> str:
        """Pieces of whole lines. The last line of the file may have no end; it may stand before others now."""
        filled = [piece for piece in pieces if piece]
        for index, piece in enumerate(filled[:-1]):
            if not piece.rstrip(self._brink).endswith(("\n", "\r")):
                filled[index] = piece + self._line_break
        return "".join(filled)

    def _extents(self, node: Node, region: tuple[int, int]) -> Iterator[_Extent]:
        gap = region[0]
        starts = [max(self._lines.start(child.start), gap) for child in node.children]
        limits = [*starts[1:], region[1]]
        for child, start, limit in zip(node.children, starts, limits, strict=True):
            end = self._end(child.end, node.indent, limit)
            yield _Extent(gap, self._own_comment(gap, start), start, end)
            gap = end

    def _own_comment(self, gap: int, start: int) -> int:
        """Where the comments directly above an entry begin."""
        lead = gap
        for _, following, content in self._lines.between(gap, start):
            if not content.startswith("#"):
                lead = following
        return lead

    def _end(self, index: int, indent: int, limit: int) -> int:
        """Where the lines of an entry end: with its value, and comments that are indented below its key."""
        end = self._lines.next(index)
        for line, following, content in self._lines.between(end, limit):
            if content and not (content.startswith("#") and self._lines.indent(line) > indent):
                break
            if content:
                end = following
        return end

    def _left_over(self, extents: Sequence[_Extent]) -> Iterator[str]:
        """Comments that stand before entries which are gone, without being theirs."""
        for extent in extents:
            gap = self._text[extent.gap : extent.lead]
            if gap.strip():
                yield gap

    def _new_entry(self, step: Step, indent: int) -> str:
        if isinstance(step.key, int):
            written = "- " + write_value(step.value, indent=indent + 2).lstrip("\n ")
        else:
            written = write_value({step.key: step.value}, indent=indent).lstrip("\n ")
        return self._lined(f"{' ' * indent}{written}\n") + self._brink_behind(step.value)

    def _brink_behind(self, value: object) -> str:
        while isinstance(value, _COLLECTIONS) and value:
            value = list(value.values() if isinstance(value, Mapping) else value)[-1]
        return self._brink if isinstance(value, str) and value.endswith("\n\n") else ""

    def _brink_at(self, node: Node) -> str:
        *_, last = _scalars(node)
        header = _HEADER_SIGNS.match(self._text, last.start)
        is_kept = last.is_block_text and header is not None and "+" in header[0]
        return self._brink if is_kept else ""

    def _entry(
        self, parent: Node, old: tuple[str | int, Any], step: Step, path: Path, extent: _Extent
    ) -> str:
        """The lines of an entry from its start, with the name and value of the step."""
        assert step.source is not None
        child = parent.children[step.source]
        is_renamed = isinstance(step.key, str) and step.key != old[0]
        if not is_renamed and is_same(old[1], step.value):
            return self._text[extent.start : extent.end] + self._brink_at(child.value)
        key = self._text[child.key_start : child.key_end]
        head = self._text[extent.start : child.key_start]
        head += write_scalar(step.key) if is_renamed else key
        place = (parent.indent, extent.end)
        if child.head_end < 0:
            head += f"{self._line_break}{' ' * parent.indent}:"
            return head + self._replaced(child, step.value, place)
        head += self._text[child.key_end : child.head_end]
        if is_same(old[1], step.value):
            rest = self._text[child.head_end : extent.end]
            return head + rest + self._brink_at(child.value)
        return head + self._value(child, old[1], step, path, place)

    def _value(self, child: Child, old: Any, step: Step, path: Path, place: tuple[int, int]) -> str:
        """What follows the colon or dash of an entry, changed; ``place`` is its block's indentation and its own end."""
        node, new, here = child.value, step.value, (*path, step.key)
        if not _are_alike(old, new):
            return self._replaced(child, new, place)
        if node.is_flow:
            is_kept = self._has_comment(node)
            written = self._flow(node, old, new, here, is_kept=is_kept)
            if written is None or (self._is_too_long(node, written) and not is_kept):
                return self._replaced(child, new, place)
            before, after = (child.head_end, node.start), (node.end, place[1])
            return self._text[slice(*before)] + written + self._text[slice(*after)]
        first_line = self._lines.next(child.head_end)
        if first_line <= node.start:
            block = self._block(node, old, new, here, (first_line, place[1]))
            return self._text[child.head_end : first_line] + block
        block = self._block(node, old, new, here, (node.start, place[1]))
        body = block.removeprefix(" " * node.indent)
        if body == block or body.startswith(("#", " ")):
            return self._line_break + block
        return self._text[child.head_end : node.start] + body

    # Values that are written anew

    def _replaced(self, child: Child, new: object, place: tuple[int, int]) -> str:
        """What follows the colon or dash, with another value and the comments that stood beside the old one."""
        indent, end = place
        comment, tail = self._comments_beside(child, end)
        written = self._written(child.value, new, indent)
        is_item = child.key_start == child.key_end
        if is_item and written.startswith("\n") and not comment:
            written = " " + written.lstrip("\n ")
        first, _, rest = written.partition("\n")
        if not rest:
            before = self._text[child.head_end : child.value.start] if child.head_end >= 0 else ""
            if before and not before.strip(" \t"):
                first = before + first.lstrip(" ")
            is_last = not tail and not self._text[child.end : end].endswith(("\n", "\r"))
            return first + comment + ("" if is_last else self._line_break) + tail
        lines = self._lined(f"{first}{comment}\n{rest}\n")
        if isinstance(new, str):
            # Below a text, what is indented like it would belong to it.
            tail = re.sub(r"(?:\A|(?<=[\r\n]))[ \t]*(?=#)", " " * indent, tail)
        return lines + self._brink_behind(new) + tail

    def _comments_beside(self, child: Child, end: int) -> tuple[str, str]:
        """The comment on the line of an entry, with the blanks before it, and the lines of comments below it."""
        node = child.value
        before = self._text[max(child.head_end, child.key_end) : node.start]
        after = self._text[node.end : end]
        if node.is_block_text:
            header = _HEADER_SIGNS.match(self._text, node.start)
            assert header is not None
            before = before.strip(" \t") + self._text[header.end() : self._lines.end(node.start)]
        elif node.is_block:
            start = min(self._lines.next(child.head_end), node.start)
            before = self._text[child.head_end : start].rstrip("\r\n")
            extents = list(self._extents(node, (start, end)))
            after = "\n" + "".join(self._left_over(extents)) + self._text[extents[-1].end : end]
        first, *others = _LINE_BREAK.split(before)
        beside, _, tail = _partition(after)
        comments = [text for text in (first, *others, beside) if "#" in text]
        if not comments:
            return "", tail
        others = [f"{comment.strip()}{self._line_break}" for comment in comments[1:]]
        lines = "".join(
            " " * (self._lines.indent(self._lines.start(child.start)) + 2) + o for o in others
        )
        blanks = re.match(r"[ \t]*", comments[0])
        comment = comments[0].strip(" \t")
        assert blanks is not None
        return (blanks[0] or " ") + comment, lines + tail

    def _written(self, node: Node, new: object, indent: int) -> str:
        """A value in the style of the one that stood there, where the new one is fit for it."""
        if not isinstance(new, str):
            return write_value(new, indent=indent + 2)
        inner = node.indent if node.is_block_text and node.indent > indent else indent + 2
        is_line = "\n" not in new.rstrip("\n") and not _UNFIT_FOR_FOLDING.search(new)
        if node.style == ">" and is_line and is_fit_for_block(new):
            return self._folded(node, new, inner)
        if (node.is_block_text or "\n" in new) and is_fit_for_block(new):
            return write_block(new, indent=inner)
        if node.is_block_text or (node.start == node.end and not node.style):
            return write_value(new, indent=indent + 2)
        return " " + write_scalar(new, quote=node.style)

    def _folded(self, node: Node, text: str, indent: int) -> str:
        """A paragraph below a ``>``, its lines as long as they were."""
        body = self._lines.next(node.start)
        lines = [line for _, _, line in self._lines.between(body, node.end)]
        is_wrapped = any(a and b for a, b in pairwise(lines))
        width = max(map(len, lines)) if is_wrapped else len(text)
        paragraph = text.rstrip("\n")
        written = [" " * indent + line for line in _wrapped(paragraph, width)]
        ending = text[len(paragraph) :].removesuffix("\n")
        return "\n".join([f" >{chomping(text)}", *written]) + ending

    # Values in brackets

    def _flow(self, node: Node, old: Any, new: Any, path: Path, *, is_kept: bool) -> str | None:
        """A mapping or list in brackets, changed; None if it must be written anew.

        With ``is_kept`` texts of several lines are no reason for that: there are comments, which would be lost.
        """
        gaps = self._gaps(node)
        opening = self._text[node.start : node.start + 1]
        if opening not in "[{" or any(_FOREIGN.search(without_comments(gap)) for gap in gaps):
            return None
        items = list(old.items() if isinstance(old, Mapping) else enumerate(old))
        flow = Brackets(gaps)
        for step in plan(old, new, self._order(path)):
            if step.source is None:
                written = self._flow_value(None, step.value, is_kept=is_kept)
                if written is not None and isinstance(step.key, str):
                    written = f"{write_flow(step.key)}: {written}"
            else:
                written = self._flow_entry(node, items[step.source], step, path, is_kept=is_kept)
            if written is None:
                return None
            flow.add(written, None if step.is_moved else step.source)
        return opening + flow.joined() + self._text[node.end - 1 : node.end]

    def _gaps(self, node: Node) -> list[str]:
        """What stands before, between and behind the entries in brackets."""
        starts = [*(child.start for child in node.children), node.end - 1]
        ends = [node.start + 1, *(child.end for child in node.children)]
        return [self._text[end:start] for end, start in zip(ends, starts, strict=True)]

    def _has_comment(self, node: Node) -> bool:
        if not node.is_flow:
            return False
        is_inside = any(self._has_comment(child.value) for child in node.children)
        return is_inside or any("#" in gap for gap in self._gaps(node))

    def _flow_entry(
        self, parent: Node, old: tuple[str | int, Any], step: Step, path: Path, *, is_kept: bool
    ) -> str | None:
        assert step.source is not None
        child = parent.children[step.source]
        node = child.value
        is_renamed = isinstance(step.key, str) and step.key != old[0]
        if not is_renamed and is_same(old[1], step.value):
            return self._text[child.start : child.end]
        head = ""
        if isinstance(step.key, str):
            key = self._text[child.key_start : child.key_end]
            colon = self._text[child.key_end : child.head_end] if child.head_end >= 0 else ":"
            head = (write_flow(step.key) if is_renamed else key) + colon
            head += self._text[child.head_end : node.start] if child.head_end >= 0 else ""
            head += "" if head[-1].isspace() else " "
        written: str | None
        if is_same(old[1], step.value):
            written = self._text[node.start : node.end]
        elif _are_alike(old[1], step.value):
            here = (*path, step.key)
            written = self._flow(node, old[1], step.value, here, is_kept=is_kept)
        else:
            written = self._flow_value(node, step.value, is_kept=is_kept)
        return None if written is None else head + written

    def _flow_value(self, node: Node | None, new: object, *, is_kept: bool) -> str | None:
        if _has_lines(new) and not is_kept:
            return None
        return write_flow(new, quote=node.style if node else "")

    def _is_too_long(self, node: Node, written: str) -> bool:
        """Whether a change has made brackets so long that lines of their own are easier to read."""
        is_on_one_line = not _LINE_BREAK.search(self._text, node.start, node.end)
        column = node.start - self._lines.start(node.start)
        is_longer = len(written) > node.end - node.start
        return is_on_one_line and is_longer and column + len(written) > _LONGEST_LINE


def _partition(text: str) -> tuple[str, str, str]:
    match = _LINE_BREAK.search(text)
    return (text[: match.start()], match[0], text[match.end() :]) if match else (text, "", "")


def _wrapped(paragraph: str, width: int) -> list[str]:
    """The lines of a paragraph, divided at single spaces."""
    lines: list[str] = []
    for word in _FOLD.split(paragraph):
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _has_lines(value: object) -> bool:
    """Whether there is a text of several lines in it, which reads better without brackets."""
    if isinstance(value, str):
        return "\n" in value and is_fit_for_block(value)
    if isinstance(value, _COLLECTIONS):
        return any(map(_has_lines, value.values() if isinstance(value, Mapping) else value))
    return False


def _are_alike(old: object, new: object) -> bool:
    """Whether both are mappings, or both lists, with something in them."""
    for kind in (Mapping, (list, tuple)):
        if isinstance(old, kind) and isinstance(new, kind):
            return bool(old) and bool(new)
    return False
