"""What is wrong with a YAML text, and what to do about it, in words for the person who wrote it.

PyYAML says what its grammar missed ("did not find expected key"), often far from the slip that
caused it. The rules below look around the error for the slips that people make, and name the slip
and its place. They read PyYAML's own words only as far as its C and its Python parser agree.

``explain_…`` gives the advice for what its name says, at an index of the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import field

import yaml

from rolebook.core.fields import in_line
from rolebook.core.frozen import frozen

#: What looks like a space, or like nothing, and is no space to YAML: for a regular expression's [].
WIDE_SPACES = "\u00a0\u1680\u2000-\u200b\u202f\u205f\u3000\ufeff"

_KEY_CONTEXTS = (
    "while scanning a simple key",
    "while parsing a block mapping",
    "while parsing a block collection",
)

_REFUSED_CHARACTER = (
    "cannot start any token",
    "node content",
    "mapping keys are not allowed",
)

_INDENTING_TAB = re.compile(r" *(\t)")
_WIDE_SPACE = re.compile(
    rf"^[ \t-]*(?:[^\s:#\"'-][^\s:#\"']{{0,63}}:)?([{WIDE_SPACES}])", re.MULTILINE
)
_WIDE_COLON = re.compile(
    r"^[ \t]*(?:- +)*[\"']?([^\s:：#\"'-][^\s:：#\"']{0,63})[\"']?[ \t]*(：)", re.MULTILINE
)
_TIGHT_COLON = re.compile(r"^[ \t]*(?:- +)*([^\W\d][\w-]{0,63})(:)(?![\s/\\])", re.MULTILINE)
#: What may become a key, as it is being typed.
_UNFINISHED_KEY = re.compile(r"[a-z][a-z_]*\s*\Z")
_KEY_LINE = re.compile(r"[ \t]*(?:- +)*[\"']?[\w-]{1,64}[\"']?:\s")
_HASH = re.compile(r"(?:[ \t]|^)(#)", re.MULTILINE)
_TEMPLATE_MARK = re.compile(r"\{[{%]")
_DIRECTIVE = re.compile(r"^%", re.MULTILINE)
_END_MARK = re.compile(r"^\.\.\.(?:\s|\Z)", re.MULTILINE)
_EQUALS = re.compile(r"^[ \t]*([^\W\d][\w-]{0,63})[ \t]*(=)(?!=)", re.MULTILINE)
#: The lines that git leaves in a file where two changes meet, in their order.
_CONFLICT = tuple(re.compile(rf"^{mark}{{7}}(?: .*)?$", re.MULTILINE) for mark in "<=>")
_TOKEN = re.compile(r"\S{1,40}")
_ESCAPE = re.compile(r"\\(?:x\w{0,2}|u\w{0,4}|U\w{0,8}|.)")
_SURROGATE_PAIR = re.compile(r"\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")


@frozen
class Advice:
    """A slip at ``index`` of the text, with the ``message`` and ``parameters`` of a ``Problem``."""

    index: int
    message: str
    parameters: Mapping[str, object] = field(default_factory=dict)


@frozen
class LastValue:
    """Where the last text before an error begins and ends, and whether it has no quotes around it."""

    start: int = 0
    end: int = 0
    is_plain: bool = False

    @property
    def since(self) -> int:
        """Where a slip may be at the earliest: quoted text is as it was meant."""
        return self.start if self.is_plain else self.end


def explain_unreadable_character(index: int, character: str) -> Advice:
    return Advice(
        index,
        "The character %(code)s cannot stand in a YAML file: delete it.",
        {"code": _code(character)},
    )


def explain_empty_file() -> Advice:
    return Advice(0, "The file is empty: write 'key: value' lines.")


def explain_list_root(index: int) -> Advice:
    return Advice(index, "The file holds a list: write 'key: value' lines instead.")


def explain_text_root(text: str, index: int, *, is_plain: bool) -> Advice:
    """The advice for a file that is one text as a whole, beginning at ``index``."""
    fault = _Fault(text, start=index, index=len(text), value=LastValue(index, index))
    rules = (_conflict, _wide_space, _wide_colon, _tight_colon, _equals) if is_plain else ()
    slip = next((advice for rule in rules if (advice := rule(fault))), None)
    return slip or Advice(index, "The file holds plain text: write 'key: value' lines instead.")


def explain_second_document(text: str, index: int) -> Advice:
    if text.startswith("---") and not _KEY_LINE.match(text, _line_end(text, index) + 1):
        return Advice(
            index,
            "What follows this '---' is not read: if it is the system text, write it below"
            " 'system: |', indented.",
        )
    return Advice(
        index,
        "A second document begins here, and one file holds one: remove the line '---', or indent"
        " it if it belongs to a text.",
    )


def explain_too_many_nodes(index: int, limit: int) -> Advice:
    return Advice(
        index,
        "The file has more than %(limit)d keys and values: split it.",
        {"limit": limit},
    )


def explain_too_deep(index: int, limit: int) -> Advice:
    return Advice(
        index,
        "The values are nested more than %(limit)d levels deep here: use fewer levels.",
        {"limit": limit},
    )


def explain_duplicate_key(index: int, key: str, first_line: int) -> Advice:
    return Advice(
        index,
        "The key '%(key)s' stands here again; it is already in line %(first_line)d: remove one of"
        " the two.",
        {"key": in_line(key), "first_line": first_line},
    )


def explain_empty_key(index: int) -> Advice:
    return Advice(
        index,
        "A key cannot be empty or null: give it a name, or put it in quotes if it is a text.",
    )


def explain_merge_key(index: int) -> Advice:
    return Advice(index, "The merge key '<<' is not read: write the keys themselves.")


def explain_complex_key(text: str, index: int) -> Advice:
    """The advice for a key that is a list or a mapping, most often an unquoted ``{{ name }}``."""
    if text.startswith("{{", max(index - 1, 0)):
        return explain_template_mark(max(index - 1, 0), "{{")
    if text.startswith("{{", index):
        return explain_template_mark(index, "{{")
    return Advice(index, "A list or a mapping cannot be a key: write a text as the key.")


def explain_template_mark(index: int, mark: str) -> Advice:
    return Advice(
        index,
        "'%(mark)s' opens a YAML mapping here: put the text in quotes, or write it below a '|'.",
        {"mark": mark},
    )


def explain_property(text: str, index: int) -> Advice:
    """The advice for an alias (``*x``), an anchor (``&x``) or a tag (``!x``) at ``index``."""
    return Advice(
        index,
        "'%(token)s' is an alias, an anchor or a tag to YAML, and none of them is accepted: remove"
        " it, or put the text in quotes.",
        {"token": _first(_TOKEN, text, index)},
    )


def explain_escape(text: str, index: int) -> Advice:
    """The advice for a backslash at ``index``, in double quotes, that begins no usable escape."""
    if pair := _SURROGATE_PAIR.match(text, index):
        high, low = (int(half, 16) for half in pair.groups())
        code = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)
        return Advice(
            index,
            "One character is written here as two halves: write '%(character)s' itself, or"
            " '\\U%(code)s'.",
            {"character": chr(code), "code": f"{code:08X}"},
        )
    if text[index + 1 : index + 2] in ("x", "u", "U", "0"):
        return Advice(
            index,
            "The escape '%(escape)s' stands for no character that a text can hold: write the"
            " character itself, or '\\\\' for a backslash.",
            {"escape": _first(_ESCAPE, text, index)},
        )
    return Advice(
        index,
        "'%(escape)s' is no escape in double quotes: write '\\\\' for a backslash, or put the text"
        " in single quotes.",
        {"escape": text[index : index + 2]},
    )


def explain_wide_space(index: int, character: str) -> Advice:
    return Advice(
        index,
        "A wide, non-breaking or invisible space (%(code)s) stands where YAML needs an ordinary"
        " one: replace it with ordinary spaces, or put the text in quotes if it belongs to it.",
        {"code": _code(character)},
    )


def explain_wide_colon(index: int, key: str) -> Advice:
    return Advice(
        index,
        "A full-width colon '：' does not end a key: write '%(key)s: ' with an ordinary colon and a"
        " space. If this is text, put it in quotes, or indent it below a '|'.",
        {"key": key},
    )


def explain_comment(index: int) -> Advice:
    return Advice(
        index,
        "What follows the '#' was taken as a comment, and the text ends before it: put the text in"
        " quotes if the '#' belongs to it.",
    )


def explain_syntax_error(text: str, error: Exception, *, value: LastValue) -> Advice:
    """The advice for what PyYAML raised while it read ``text``, ``value`` being what it read last."""
    if not isinstance(error, yaml.MarkedYAMLError):
        # PyYAML's Python parser lets out what chr() says of an escape beyond Unicode.
        return explain_escape(text, text.find("\\U", value.end))
    index = error.problem_mark.index if error.problem_mark else value.end
    fault = _Fault(
        text,
        start=error.context_mark.index if error.context_mark else index,
        index=index,
        value=value,
        context=error.context or "",
        problem=error.problem or "",
    )
    return next(advice for rule in _RULES if (advice := rule(fault)))


@frozen
class _Fault:
    """A syntax error, with what the rules need to know of it.

    ``start`` is where the construct began that could not be finished at ``index``.
    """

    text: str
    start: int
    index: int
    value: LastValue
    context: str = ""
    problem: str = ""

    @property
    def character(self) -> str:
        return self.text[self.index : self.index + 1]

    @property
    def is_misplaced_key(self) -> bool:
        """Whether PyYAML found ``: `` where no key can be."""
        return self.problem.startswith("mapping values are not allowed")

    @property
    def is_about_keys(self) -> bool:
        return self.context in _KEY_CONTEXTS or self.is_misplaced_key

    def indentation(self, index: int) -> int:
        line = self.text[_line_start(self.text, index) : _line_end(self.text, index)]
        return len(line) - len(line.lstrip(" "))

    def search(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """The first match in the lines where the slip must be."""
        is_line = self.context == "while scanning a simple key"
        first = self.start if is_line else min(self.value.since, self.index)
        begin = _line_start(self.text, first)
        return pattern.search(self.text, begin, _line_end(self.text, self.index))


def _conflict(fault: _Fault) -> Advice | None:
    starts = [-1]
    for mark in _CONFLICT:
        match = mark.search(fault.text, starts[-1] + 1)
        if not match:
            return None
        starts.append(match.start())
    return Advice(
        starts[1],
        "A merge was left unfinished here: keep one of the two versions, and delete the lines"
        " '<<<<<<<', '=======' and '>>>>>>>'.",
    )


def _unclosed_quote(fault: _Fault) -> Advice | None:
    if fault.context != "while scanning a quoted scalar":
        return None
    return Advice(
        fault.start,
        "The quote that opens here is never closed: write %(quote)s at the end of the text, or"
        " write the text below a '|'.",
        {"quote": fault.text[fault.start]},
    )


def _unknown_escape(fault: _Fault) -> Advice | None:
    if "quoted scalar" not in fault.context:
        return None
    # The two parsers point at the backslash, at the letter after it, or at the digits.
    return explain_escape(fault.text, fault.text.rfind("\\", fault.start, fault.index + 1))


def _tab(fault: _Fault) -> Advice | None:
    indenting = _INDENTING_TAB.match(fault.text, _line_start(fault.text, fault.index))
    if not indenting and fault.character != "\t":
        return None
    return Advice(
        indenting.start(1) if indenting else fault.index,
        "A tab stands where YAML needs spaces: use spaces only.",
    )


def _block_header(fault: _Fault) -> Advice | None:
    if fault.context != "while scanning a block scalar":
        return None
    return Advice(
        fault.start,
        "After '%(character)s' the text begins on the next line, indented. A text that begins with"
        " '%(character)s' must be put in quotes.",
        {"character": fault.text[fault.start]},
    )


def _markdown_item(fault: _Fault) -> Advice | None:
    if "alias" not in fault.context or not fault.text.startswith("* ", fault.start):
        return None
    return Advice(
        fault.start,
        "'*' does not begin a list item in YAML: write '- ' instead, or put the text in quotes.",
    )


def _property(fault: _Fault) -> Advice | None:
    """``*bold*``, ``& more``, ``!x!y``: read as the beginning of an alias, an anchor, a tag."""
    character = fault.text[fault.start : fault.start + 1]
    if character not in ("*", "&", "!") or fault.is_about_keys:
        return None
    return _must_be_quoted(fault.start, character)


def _first_character(fault: _Fault) -> Advice | None:
    if not any(words in fault.problem for words in _REFUSED_CHARACTER):
        return None
    if fault.text.startswith("{%", fault.index - 1):
        return explain_template_mark(fault.index - 1, "{%")
    return _must_be_quoted(fault.index, fault.character) if fault.character not in ":" else None


def _must_be_quoted(index: int, character: str) -> Advice:
    return Advice(
        index,
        "A text that begins with '%(character)s' must be quoted: put it in quotes, or write it"
        " below a '|'.",
        {"character": character},
    )


def _directive(fault: _Fault) -> Advice | None:
    if "directive" not in fault.context and "document" not in fault.problem:
        return None
    line = _DIRECTIVE.search(fault.text, 0, fault.index + 1)
    return _must_be_quoted(line.start(), "%") if line else None


def _after_the_end(fault: _Fault) -> Advice | None:
    if "document start" not in fault.problem:
        return None
    if not _END_MARK.search(fault.text, 0, fault.index):
        return Advice(
            fault.index,
            "The indentation of this line fits none of the lines above: align it with the keys or"
            " items that it belongs to.",
        )
    return Advice(
        fault.index,
        "The line '...' ended the document, and nothing may follow it: remove that line, or indent"
        " it if it belongs to a text.",
    )


def _wide_space(fault: _Fault) -> Advice | None:
    match = fault.search(_WIDE_SPACE)
    return explain_wide_space(match.start(1), match[1]) if match else None


def _wide_colon(fault: _Fault) -> Advice | None:
    match = fault.search(_WIDE_COLON)
    return explain_wide_colon(match.start(2), match[1]) if match else None


def _tight_colon(fault: _Fault) -> Advice | None:
    match = fault.search(_TIGHT_COLON)
    if not match:
        return None
    return Advice(
        match.start(2),
        "A space is missing after the colon: write '%(key)s: ' and then the value.",
        {"key": match[1]},
    )


def _equals(fault: _Fault) -> Advice | None:
    match = fault.search(_EQUALS)
    if not match:
        return None
    return Advice(
        match.start(2),
        "A '=' does not end a key: write '%(key)s: ' and then the value.",
        {"key": match[1]},
    )


def _colon_in_text(fault: _Fault) -> Advice | None:
    if not fault.is_misplaced_key or "\n" in fault.text[fault.value.since : fault.index]:
        return None
    return Advice(
        fault.index,
        "A colon and a space cannot stand in an unquoted text: put the text in quotes, or write it"
        " below a '|'.",
    )


def _key_in_text(fault: _Fault) -> Advice | None:
    if not fault.is_misplaced_key:
        return None
    return Advice(
        fault.index,
        "No key can stand here, because the text above goes on to here: give the key the"
        " indentation of the keys above, or put that text in quotes.",
    )


def _text_after_quote(fault: _Fault) -> Advice | None:
    value = fault.value
    is_quoted = fault.text[value.end - 1 : value.end] in ("'", '"') and not value.is_plain
    if not is_quoted or not fault.is_about_keys or "\n" in fault.text[value.end : fault.index]:
        return None
    if "\n" in fault.text[value.start : value.end]:
        return Advice(
            value.start,
            "The quote that opens here is closed only further down, and text follows there: close"
            " it where the text ends.",
        )
    return Advice(
        fault.index,
        "Text follows the closing quote: put the whole text in quotes, with '' for ' inside single"
        " quotes and \\\" for \" inside double quotes, or write it below a '|'.",
    )


def _template_mark(fault: _Fault) -> Advice | None:
    line = _line_start(fault.text, fault.index)
    match = _TEMPLATE_MARK.search(fault.text, line, fault.index + 2)
    return explain_template_mark(match.start(), match[0]) if match else None


def _cut_text(fault: _Fault) -> Advice | None:
    """A text that goes on in the next line, after what was taken as a comment."""
    begin = _line_start(fault.text, fault.index)
    is_key = _KEY_LINE.match(fault.text, begin) or _UNFINISHED_KEY.match(fault.text, begin)
    if fault.context not in _KEY_CONTEXTS or is_key:
        return None
    match = _HASH.search(fault.text, fault.value.since, fault.index)
    if not match:
        return None
    return Advice(
        match.start(1),
        "A '#' after a space begins a comment and cuts the text here: put the whole text in quotes,"
        " or write it below a '|'.",
    )


def _list_after_key(fault: _Fault) -> Advice | None:
    if "sequence entries are not allowed" not in fault.problem:
        return None
    return Advice(
        fault.index,
        "A list cannot begin on the line of its key: write each item on a line of its own. A text"
        " that begins with '-' must be put in quotes.",
    )


def _stray_item(fault: _Fault) -> Advice | None:
    if fault.context != "while parsing a block mapping" or fault.character != "-":
        return None
    return Advice(
        fault.index,
        "A list item stands where a key is expected: write it below the key that it belongs to,"
        " and give that key no other value.",
    )


def _missing_key(fault: _Fault) -> Advice | None:
    if fault.context in ("", "while scanning a simple key") or fault.character != ":":
        return None
    return Advice(
        fault.index, "No key stands before this colon: write 'key: value', or put a text in quotes."
    )


def _stray_line(fault: _Fault) -> Advice | None:
    if fault.context != "while scanning a simple key":
        return None
    return Advice(
        fault.start,
        "This line is not 'key: value'. If it goes on with the text above, indent it, and begin"
        " that text with a '|'.",
    )


def _indentation(fault: _Fault) -> Advice | None:
    if fault.context not in _KEY_CONTEXTS:
        return None
    return Advice(
        fault.index,
        "The indentation of this line fits none of the lines above: align it with the keys or"
        " items that it belongs to.",
    )


def _open_bracket(fault: _Fault) -> Advice | None:
    if not fault.context.startswith("while parsing a flow"):
        return None
    start = fault.start
    if fault.context == "while parsing a flow node":
        start = max(fault.text.rfind(bracket, 0, fault.index) for bracket in "[{")
    bracket = fault.text[start]
    parameters = {"bracket": bracket, "closing": "]" if bracket == "[" else "}"}
    is_below = "\n" in fault.text[start : fault.index]
    if is_below and fault.indentation(fault.index) <= fault.indentation(start):
        return Advice(
            start,
            "The '%(bracket)s' that opens here is not closed: write '%(closing)s' at its end.",
            parameters,
        )
    return Advice(
        fault.index,
        "Between '%(bracket)s' and '%(closing)s' a comma is expected here: separate the items with"
        " commas, and put texts with : , ? [ ] { } in quotes.",
        parameters,
    )


def _anything(fault: _Fault) -> Advice:
    return Advice(
        fault.index,
        "This is not valid YAML (%(reason)s): check the indentation and the quotes.",
        {"reason": " ".join(filter(None, (fault.context, fault.problem)))},
    )


_Rule = Callable[[_Fault], Advice | None]


def _about_keys(rule: _Rule) -> _Rule:
    """The rule for errors about keys only: elsewhere what it looks for may be innocent."""
    return lambda fault: rule(fault) if fault.is_about_keys else None


#: The first that knows the error speaks; they go from the certain to the likely.
_RULES: tuple[_Rule, ...] = (
    _conflict,
    _unclosed_quote,
    _unknown_escape,
    _tab,
    _block_header,
    _markdown_item,
    _property,
    _first_character,
    _directive,
    _after_the_end,
    _about_keys(_wide_space),
    _about_keys(_wide_colon),
    _about_keys(_tight_colon),
    _text_after_quote,
    _colon_in_text,
    _key_in_text,
    _template_mark,
    _cut_text,
    _list_after_key,
    _stray_item,
    _open_bracket,
    _missing_key,
    _about_keys(_equals),
    _stray_line,
    _indentation,
    _anything,
)


def _line_start(text: str, index: int) -> int:
    return text.rfind("\n", 0, index) + 1


def _line_end(text: str, index: int) -> int:
    end = text.find("\n", index)
    return len(text) if end < 0 else end


def _first(pattern: re.Pattern[str], text: str, index: int) -> str:
    match = pattern.match(text, index)
    return match[0] if match else ""


def _code(character: str) -> str:
    return f"U+{ord(character):04X}"
