"""What a judge's answer says: the verdict is found in whatever stands around it, and nothing else is taken for one."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from rolebook.core.judge import parse_verdict

TONE = '{"name": "tone", "passed": false}'
LENGTH = '{"name": "length", "passed": true}'
FAILED = '{"passed": false, "reason": "It scolds."}'
PASSED = '{"passed": true, "reason": "It is kind."}'

VERDICTS = [
    (PASSED, True, "It is kind."),
    (f"Let me see.\n{FAILED}\n", False, "It scolds."),
    (f"```json\n{FAILED}\n```\nThat is all.", False, "It scolds."),
    ('{"pass": true, "reason": "It\\n is   kind."}', True, "It is kind."),
    # The outermost object decides, wherever its parts stand.
    (f'{{"passed": false, "reason": "No.", "criteria": [{TONE}, {LENGTH}]}}', False, "No."),
    (f'{{"criteria": [{TONE}, {LENGTH}], "passed": false, "reason": "No."}}', False, "No."),
    (f'{{"verdict": {FAILED}, "parts": {{"all": [{LENGTH}]}}}}', False, "It scolds."),
    (f"[{FAILED}]", False, "It scolds."),
    # Parts alone are a verdict only where they are at one.
    (f"[{TONE}, {LENGTH}]", None, ""),
    (f'{{"criteria": [{LENGTH}, {LENGTH}]}}', True, ""),
    # Whoever thinks aloud changes their mind.
    (f"At first I thought {PASSED}, but then: {FAILED}", False, "It scolds."),
    (f"{{x}} and {{}} and [1] [see {{y}}] {PASSED} {{z}}", True, "It is kind."),
    (f'{PASSED} {{"tokens": 12}}', True, "It is kind."),
    (f'One may write {{"passed": ?}}. {PASSED}', True, "It is kind."),
    # What was cut off or is broken says nothing, and neither does what stands in it or was thought before it.
    (f'{PASSED} No: {{"passed": false, "criteria": [{LENGTH}, ', None, ""),
    (f'{{"passed": false, "reason": "It says "{PASSED}" and no more"}}', None, ""),
    (f'{{"passed": "perhaps", "parts": [{LENGTH}]}}', None, ""),
    (json.dumps({"reason": PASSED}), None, ""),
    (
        f'{{"passed": false, "reason": "It says so.", "quote": {json.dumps(PASSED)}}}',
        False,
        "It says so.",
    ),
    ('{"passed": true, "reason": "It counts.", "count": 1' + "0" * 5_000 + "}", True, "It counts."),
    # What models write that is no JSON.
    ('{"passed": true, "reason": "One line\nand another."}', True, "One line and another."),
    (
        r'{"passed": false, "reason": "It takes \(x^2\) for \"2x\", \\\\ and C:\\\\new."}',
        False,
        r'It takes \(x^2\) for "2x", \\ and C:\\new.',
    ),
    (f'<think>Is it {{"passed": maybe? "}}</think>{PASSED}', True, "It is kind."),
    (f'{FAILED} It quotes <think>{{"</think>', None, ""),
    ("It passes.", None, ""),
    ("", None, ""),
]


@pytest.mark.parametrize(("text", "has_passed", "reason"), VERDICTS)
def test_the_last_and_outermost_verdict_counts(
    text: str, has_passed: bool | None, reason: str
) -> None:
    assert (has_passed, reason) == parse_verdict(text)


HOSTILE: list[Callable[[int], str]] = [
    lambda n: "{" * n,
    lambda n: '{"' * n,
    lambda n: "[{" * n,
    lambda n: '{"a":' * n,
    lambda n: '{"k":["}",' * n,
    lambda n: '{"a"}' * n,
    lambda n: "\\" * n,
    lambda n: "<think>" * n,
    lambda n: '{"k":["}",' * 400 + "1," * n,
    lambda n: '{"a":"' + '{\\"' * n,
    lambda n: ('{"a":' * 300 + "1" + "}" * 300) * (n // 300),
]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_time_to_read_grows_with_the_text_and_no_faster(hostile: Callable[[int], str]) -> None:
    def cost(size: int) -> float:
        text = hostile(size)
        begun = time.thread_time()
        parse_verdict(text)
        return time.thread_time() - begun

    # Eight times as much; if each place were read again for each one before it, it would be sixty-four times.
    assert cost(40_000) < 30 * max(cost(5_000), 0.001)
