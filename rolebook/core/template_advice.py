"""What is wrong with a prompt template, and what to do about it, in words for the person who wrote it.

Jinja says what its grammar missed ("expected token 'end of print statement', got 'name'"), in English and without
advice. The rules below know what it says most often; they run inside the render worker.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import field

from rolebook.core.frozen import frozen

MISSING_NAME = "There is no '%(name)s' here: declare it under 'variables', or correct it."

#: What is said of a tag that would have texts escaped, by ourselves as Jinja sees nothing wrong in it.
MAKES_HTML = "'autoescape' makes HTML"

_NEAR: Mapping[str, str] = {
    MISSING_NAME: "There is no '%(name)s' here. Did you mean '%(near)s'? If not, declare it under 'variables'.",
    "There is no filter '%(name)s'.": "There is no filter '%(name)s'. Did you mean '%(near)s'?",
    "There is no test '%(name)s'.": "There is no test '%(name)s'. Did you mean '%(near)s'?",
    "There is no tag '%(name)s'.": "There is no tag '%(name)s'. Did you mean '%(near)s'?",
}
#: The messages that are about a name that nobody has declared.
ABOUT_MISSING_NAMES = (MISSING_NAME, _NEAR[MISSING_NAME])
#: What Jinja says, as a regular expression, and what we say instead. The first that fits speaks.
_RULES: tuple[tuple[str, str], ...] = (
    (r"'(?P<name>[^']*)' is undefined", MISSING_NAME),
    (
        r"'.+ object' has no attribute '(?P<name>[^']*)'",
        "This value has nothing that is called '%(name)s': correct the name.",
    ),
    (
        r"Unexpected end of template.*innermost block that needs to be closed is '(?P<name>\w+)'.*",
        "'%(name)s' opens here and is never closed: write {%% end%(name)s %%} where it ends.",
    ),
    (
        r"Encountered unknown tag 'end(?P<name>\w+)'.*innermost block that needs to be closed is"
        r" '(?P<open>\w+)'.*",
        "'end%(name)s' stands here while '%(open)s' is still open: write {%% end%(open)s %%} before it.",
    ),
    (
        r"Encountered unknown tag 'end(?P<name>\w+)'.*",
        "'end%(name)s' closes nothing here: remove it, or open '%(name)s' before it.",
    ),
    (
        r"Encountered unknown tag '(?P<name>elif|else)'.*",
        "'%(name)s' stands here, and no 'if' is open: open one before it.",
    ),
    (r"Encountered unknown tag '(?P<name>\w+)'.*", "There is no tag '%(name)s'."),
    (r"No filter named '(?P<name>\w+)'.*", "There is no filter '%(name)s'."),
    (r"No test named '(?P<name>\w+)'.*", "There is no test '%(name)s'."),
    (
        r"expected token 'end of .*', got '='",
        "A single '=' compares nothing: write '=='.",
    ),
    (
        r"expected token 'end of (?P<place>print statement|statement block)', got '(?P<name>[^']*)'",
        "'%(name)s' stands here where the tag should end: close it before, or write what joins the two, such as"
        " ~ or a comma.",
    ),
    (
        r"expected token '(?P<expected>[^']*)', got '(?P<name>[^']*)'"
        r"|unexpected '(?P<got>[^']*)', expected '(?P<wanted>[^']*)'",
        "'%(expected)s' is missing here, before '%(name)s'.",
    ),
    (
        r"unexpected char \"'\" at .*|unexpected char '\"' at .*",
        "The quote that opens in this tag is never closed: write it at the end of the text.",
    ),
    (
        r"unexpected char '(?P<name>.)' at .*",
        "The character '%(name)s' means nothing inside of a tag: texts stand between straight quotes.",
    ),
    (
        r"unexpected 'end of .*|Expected an expression, got 'end of .*|tag name expected|expected name or number",
        "Something is missing in this tag: write what should stand there, or remove the tag.",
    ),
    (
        r"unexpected '(?P<name>[^']*)'",
        "'%(name)s' is not expected here: check the brackets and quotes of this tag.",
    ),
    (
        r"[uU]nexpected end of template.*",
        "The template ends inside of a tag: close it with }} or %%}.",
    ),
    (
        MAKES_HTML,
        "'autoescape' makes HTML of texts, but a message is sent as it is written: remove the tag, and its end.",
    ),
    (
        r"Missing end of comment tag",
        "A comment, '{#', is never closed: write '#}' where it ends, or {{ '{#' }} if it is text.",
    ),
    (
        r"Missing end of raw directive",
        "'raw' opens here and is never closed: write {%% endraw %%} where it ends.",
    ),
    (
        r"Exceeds the limit .* for integer string conversion.*",
        "A number in the template has too many digits: write a shorter one, or put it in quotes.",
    ),
    (
        r"access to attribute '(?P<name>[^']*)' of .* is unsafe.*",
        "A template may not use '%(name)s': only the values themselves are in its reach.",
    ),
)
#: Two ways in which Jinja says the same.
_SAME = {"got": "name", "wanted": "expected"}
_OPENING = re.compile(r"\{%[-+]?\s*(end)?(\w+)")


@frozen
class TemplateAdvice:
    """A message with its parameters, and the line where the slip is, 0 if that is where Jinja says."""

    message: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    line: int = 0


def explain(
    reason: str, *, source: str, known: Mapping[str, Iterable[str]]
) -> TemplateAdvice | None:
    """What to say instead of Jinja's own words; None where these are the best there is.

    Arguments:
        reason: what Jinja says.
        source: the template.
        known: the names that exist, by ``name``, ``filter``, ``test`` and ``tag``.
    """
    for said, message in _RULES:
        match = re.fullmatch(said, reason, re.DOTALL)
        if match is None:
            continue
        found = {_SAME.get(key, key): part[:80] for key, part in match.groupdict().items() if part}
        line = _line_of_open(found.get("name", "raw"), source) if "opens here" in message else 0
        kind = "name" if message == MISSING_NAME else message.split(" ")[3]
        near = _nearest(found.get("name", ""), known.get(kind, ())) if message in _NEAR else ""
        if near:
            return TemplateAdvice(_NEAR[message], {**found, "near": near}, line)
        return TemplateAdvice(message, found, line)
    return None


def _nearest(word: str, known: Iterable[str]) -> str:
    # Only a mistake pays for this import; the worker is started with every process.
    import difflib

    near = difflib.get_close_matches(word, list(known), n=1)
    return near[0] if near else ""


def _line_of_open(tag: str, source: str) -> int:
    """The line of the last tag of that name that nothing closes."""
    starts: list[int] = []
    for match in _OPENING.finditer(source):
        if match[2] == tag:
            if match[1]:
                del starts[-1:]
            else:
                starts.append(match.start())
    return source.count("\n", 0, starts[-1]) + 1 if starts else 0
