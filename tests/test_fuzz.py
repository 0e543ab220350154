"""A small sample of `make fuzz`, and that it would notice what breaks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz import Fuzzer, run


def test_bent_files_and_templates_give_results_or_errors_of_ours(tmp_path: Path) -> None:
    # How long each takes is the matter of `make fuzz`, on a machine that does nothing else.
    report = run(files=400, templates=150, seed=20, failures=tmp_path, patience=10)
    assert [] == report.failures
    assert {"persona": 400, "template": 150} == dict(report.tried)
    assert {"file read", "file refused", "template rendered", "template refused"} <= set(
        report.outcomes
    )


def test_input_of_a_number_is_the_same_in_every_run(tmp_path: Path) -> None:
    fuzzers = [Fuzzer(seed=seed, failures=tmp_path) for seed in (1, 1, 2)]
    one, same, other = (
        [fuzzer.source(kind, number) for kind in ("persona", "template") for number in range(9)]
        for fuzzer in fuzzers
    )
    assert one == same != other


def test_what_breaks_is_kept_with_what_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No file is read in less than no time.
    monkeypatch.setattr("tests.fuzz._FILE_LIMIT_S", -1.0)
    report = run(files=1, templates=1, seed=1, failures=tmp_path)
    (failure,) = report.failures
    assert failure.startswith("persona-1-0: it took ")
    assert {"persona-1-0.yaml", "persona-1-0.txt"} == {path.name for path in tmp_path.iterdir()}
