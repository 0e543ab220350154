"""A small sample of `make api-fuzz`: schemathesis calls the whole API by its document, and finds nothing."""

from __future__ import annotations

import pytest

from tests.api_fuzz import run


# Ten seconds of a processor, which on a busy machine become minutes.
@pytest.mark.timeout(400)
def test_schemathesis_finds_nothing() -> None:
    outcome = run(examples=2, seed=1, phases="fuzzing")
    assert 0 == outcome.status, outcome.output
    assert "No issues found" in outcome.output
    assert 60 < len({name for name, _ in outcome.answers})
    assert [] == [key for key in outcome.answers if key[1] >= 500]
    assert [] == list(outcome.undescribed)
