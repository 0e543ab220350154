"""What personas say, as HTML that is safe to show: Markdown without raw HTML and images, with few kinds of links."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from io import StringIO
from typing import Any, NamedTuple

import nh3
from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml, isMdAsciiPunct, isPunctChar, isWhiteSpace
from markdown_it.parser_inline import ParserInline
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock, table
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from markupsafe import Markup
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

from rolebook.report.visible import visible

#: Texts longer than this are shown as they are: nobody reads them as a set page, and setting them takes a second.
_LONGEST = 100_000
#: A line of code longer than this is data; the colouring of some languages takes quadratic time on it.
_LONGEST_CODE = 20_000
_LONGEST_CODE_LINE = 500
_LONGEST_COLOURING_S = 0.05
_MANY_BLANK_LINES = re.compile(r"(?:[ \t]*\n){20}")
#: How many inline tokens may be looked at for each character. Ordinary text needs less than one.
_STEPS_PER_CHARACTER = 2
_FEWEST_STEPS = 4_000
#: A table is filled up with empty cells: a few bytes could make a hundred thousand of them.
_MOST_CELLS = 10_000

_CLEANER = nh3.Cleaner(
    tags={
        "a",
        "blockquote",
        "br",
        "code",
        "em",
        "hr",
        "li",
        "ol",
        "p",
        "pre",
        "s",
        "span",
        "strong",
        "ul",
    }
    | {"h1", "h2", "h3", "h4", "h5", "h6", "table", "tbody", "td", "th", "thead", "tr"},
    attributes={
        "a": {"href", "title"},
        "code": {"class"},
        "ol": {"start"},
        "pre": {"tabindex"},
        "span": {"class"},
        "td": {"class"},
        "th": {"class"},
    },
    link_rel="noopener noreferrer",
    set_tag_attribute_values={"a": {"target": "_blank"}},
    url_schemes={"http", "https", "mailto"},
    url_relative="deny",
)

_SAFE_LINK = re.compile(r"(https?://|mailto:)[^\s]", re.IGNORECASE)
_CJK = re.compile(
    "[\u1100-\u11ff\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3040-\u30ff\u3105-\u312f\u3130-\u318f"
    "\u31a0-\u31bf\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\uff66-\uffdc"
    "\U00020000-\U0003ffff]"
)
#: A URL ends at white space, at quotes and at Chinese punctuation, which is never part of one.
_URL_CHARACTER = "[^\\s<>()\"'`、。，；：！？（）《》「」『』【】〈〉“”‘’…｜]"
_URL_REST = re.compile(rf"//(?:{_URL_CHARACTER}|\({_URL_CHARACTER}{{0,200}}\)){{1,1000}}")


@lru_cache(maxsize=512)
def render_markdown(text: str, shift: int = 2) -> Markup:
    """What somebody wrote in Markdown, as HTML that runs nothing and loads nothing.

    Text that is too long, or made to take long, is shown as it is. Takes a few milliseconds for a page of text.

    Arguments:
        text: anything; nothing in it is trusted.
        shift: how many levels its headings move down, so that they fit below the headings around it.
    """
    shown = visible(text)
    if len(shown) > _LONGEST:
        return _plain(shown)
    try:
        html = _MARKDOWN.render(shown, {"shift": shift, "steps": _steps_for(shown)})
    except (_TooMuchWorkError, RecursionError):
        return _plain(shown)
    # The parser lets no HTML through; this is a second wall, by another hand.
    return Markup(_CLEANER.clean(html))


def _plain(text: str) -> Markup:
    return Markup('<p class="plain">{}</p>').format(text)


def _steps_for(text: str) -> int:
    return _FEWEST_STEPS + _STEPS_PER_CHARACTER * len(text)


class _TooMuchWorkError(Exception):
    """The text takes more steps than text of its length should."""


class _Delimiters(NamedTuple):
    can_open: bool
    can_close: bool
    length: int


class _CjkState(StateInline):
    """Knows that in Chinese, Japanese and Korean no space stands around emphasis.

    CommonMark takes the closing mark of ``**注意：**请`` for an opening one, because punctuation stands before it and
    a letter behind it. Here a CJK character ends a word like white space does.
    """

    def scanDelims(self, start: int, canSplitWord: bool) -> Any:  # noqa: N802, N803
        marker, end = self.src[start], start
        while end < self.posMax and self.src[end] == marker:
            end += 1
        before = self.src[start - 1] if start else " "
        after = self.src[end] if end < self.posMax else " "
        left = not _is_space(after) and (not _is_punctuation(after) or _ends_word(before))
        right = not _is_space(before) and (not _is_punctuation(before) or _ends_word(after))
        return _Delimiters(
            can_open=left and (canSplitWord or not right or _is_punctuation(before)),
            can_close=right and (canSplitWord or not left or _is_punctuation(after)),
            length=end - start,
        )


def _is_space(character: str) -> bool:
    return isWhiteSpace(ord(character))


def _is_punctuation(character: str) -> bool:
    return isMdAsciiPunct(ord(character)) or isPunctChar(character)


def _ends_word(character: str) -> bool:
    return _is_space(character) or _is_punctuation(character) or _CJK.match(character) is not None


class _BoundedInline(ParserInline):
    """Counts its steps: nested brackets, for one, take a quadratic number of them."""

    def skipToken(self, state: StateInline) -> None:  # noqa: N802
        steps = int(state.env["steps"]) - 1
        if steps < 0:
            raise _TooMuchWorkError
        state.env["steps"] = steps
        super().skipToken(state)

    def parse(self, src: str, md: MarkdownIt, env: Any, tokens: list[Token]) -> list[Token]:
        state = _CjkState(src, md, env, tokens)
        self.tokenize(state)
        for rule in self.ruler2.getRules(""):
            rule(state)
        return state.tokens


class _Renderer(RendererHTML):
    """HTML for a page of ours: nothing loads, headings fit in, code can be scrolled by keyboard."""

    def image(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """An image is never loaded: a link says what it shows and where it is."""
        token = tokens[idx]
        label = self.renderInlineAsText(token.children, options, env) or str(token.attrs["src"])
        href = escapeHtml(str(token.attrs["src"]))
        return f'<a href="{href}">🖼 {escapeHtml(label)}</a>'

    def heading_open(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return f"<{_shifted(tokens[idx], env)}>"

    def heading_close(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return f"</{_shifted(tokens[idx], env)}>\n"

    def fence(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        token = tokens[idx]
        language = token.info.split()[0] if token.info.split() else ""
        return f'<pre tabindex="0"><code>{_coloured(token.content, language)}</code></pre>\n'

    def code_block(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return f'<pre tabindex="0"><code>{escapeHtml(tokens[idx].content)}</code></pre>\n'

    def list_item_open(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        checked = tokens[idx].meta.get("checked")
        mark = "" if checked is None else "☑ " if checked else "☐ "
        return f"<li>{mark}"

    def th_open(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return _cell(tokens[idx])

    td_open = th_open


def _shifted(token: Token, env: Mapping[str, Any]) -> str:
    return f"h{min(int(token.tag[1]) + int(env['shift']), 6)}"


def _cell(token: Token) -> str:
    """A table's cell; its alignment becomes a class, because styles in the page are not allowed."""
    alignment = str(token.attrs.get("style", "")).removeprefix("text-align:")
    return f'<{token.tag} class="align-{alignment}">' if alignment else f"<{token.tag}>"


def _coloured(code: str, language: str) -> str:
    """Code with its words in spans by their kind, where the language is known and colouring is quick."""
    longest = max(map(len, code.split("\n")))
    is_odd = longest > _LONGEST_CODE_LINE or _MANY_BLANK_LINES.search(code)
    if not language or len(code) > _LONGEST_CODE or is_odd:
        return escapeHtml(code)
    try:
        lexer = get_lexer_by_name(language, stripnl=False, ensurenl=False)
        tokens = list(_in_time(lexer.get_tokens(code)))
    except (ClassNotFound, _TooMuchWorkError):
        return escapeHtml(code)
    html = StringIO()
    _FORMATTER.format(tokens, html)
    return html.getvalue()


def _in_time(tokens: Iterator[tuple[Any, str]]) -> Iterator[tuple[Any, str]]:
    deadline = time.monotonic() + _LONGEST_COLOURING_S
    for token in tokens:
        if time.monotonic() > deadline:
            raise _TooMuchWorkError
        yield token


_FORMATTER = HtmlFormatter(nowrap=True, classprefix="hl-")


class _Markdown(MarkdownIt):
    def validateLink(self, url: str) -> bool:  # noqa: N802
        """Only where following it is harmless."""
        return _SAFE_LINK.match(url) is not None

    def length_of_url(self, text: str, position: int) -> int:
        """How much of ``text`` at ``position``, after the scheme, belongs to a URL."""
        found = _URL_REST.match(text, position)
        return len(found[0].rstrip(".,;:!?*_~]'\"")) if found else 0


def _build_markdown() -> MarkdownIt:
    markdown = _Markdown(
        "js-default", {"linkify": True, "tasklists": True, "breaks": True}, renderer_cls=_Renderer
    )
    markdown.inline = _BoundedInline()
    markdown.block.ruler.at("table", _small_table, {"alt": ["paragraph", "reference"]})
    assert markdown.linkify is not None
    # Without a scheme `app.py` would be a site in Paraguay.
    markdown.linkify.set({"fuzzy_link": False, "fuzzy_email": False})
    markdown.linkify.add("http:", {"validate": markdown.length_of_url})
    for scheme in ("//", "ftp:"):
        markdown.linkify.add(scheme, None)
    return markdown


def _small_table(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    columns = state.getLines(start, start + 1, 0, False).count("|") + 1
    return columns * (end - start) <= _MOST_CELLS and table(state, start, end, silent)


_MARKDOWN = _build_markdown()
