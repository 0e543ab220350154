"""The words of pages, in the reader's language."""

from __future__ import annotations

import pytest
from flask import Flask

from rolebook.web.wording import gettext, ngettext


def test_a_text_may_have_tags_and_what_is_filled_in_has_none(app: Flask) -> None:
    with app.test_request_context():
        assert "<b>&lt;i&gt;</b>" == gettext("<b>%(who)s</b>", who="<i>")
        assert "all of it: 100 %" == gettext("all of it: 100 %%")
        assert "5 %" == gettext("%(share)s %%", share=5)


@pytest.mark.parametrize(
    ("asked", "waiting", "inputs"),
    [("en", "Waiting", ["1 input", "2 inputs"]), ("zh", "等待中", ["1 条输入", "2 条输入"])],
)
def test_each_reader_is_told_in_a_language_of_their_own(
    app: Flask, asked: str, waiting: str, inputs: list[str]
) -> None:
    for _again in range(2):
        with app.test_request_context(headers={"Accept-Language": asked}):
            assert waiting == gettext("Waiting")
            told = [ngettext("%(num)s input", "%(num)s inputs", number) for number in (1, 2)]
            assert inputs == told
