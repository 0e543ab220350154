"""What a hostile template may cost, and what it may reach."""

from __future__ import annotations

import contextlib
import os
import resource
import statistics
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from rolebook.core.errors import PromptError, PromptLimitError
from rolebook.core.sandbox import Sandbox
from tests.core.conftest import Rendering

BODY = "{% message 'user' %}%s{% endmessage %}"

CPU = {
    "nested loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "macro tree": "{% macro m(n) %}{% if n %}{{ m(n-1) }}{{ m(n-1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "slices": "{% for x in [1]|slice(10**9) %}{% endfor %}",
    "power": "{{ (9**99999999) > 1 }}",
    "batch": "{% for x in range(99999)|batch(1) %}{% for y in range(99999)|batch(1) %}{% endfor %}{% endfor %}",
    "sort": "{% for i in range(99999) %}{% set x = range(99999)|sort(reverse=true) %}{% endfor %}",
    "many tags": "{% if true %}{% endif %}" * 60_000,
}
MEMORY = {
    "repetition": "{{ 'a' * 500000000 }}",
    "percent": "{{ '%2000000000d' % 1 }}",
    "format": "{{ '{:>2000000000}'.format(1) }}",
    "center": "{{ 'a'|center(2000000000) }}",
    "ljust": "{{ 'a'.ljust(2000000000) }}",
    "indent": "{{ ('a\\n' * 100000)|indent(100000) }}",
    "replace": "{% set b = 'a' * 100000 %}{{ b.replace('a', b) }}",
    "doubling": "{% set n = namespace(a='a') %}{% for i in range(60) %}{% set n.a = n.a ~ n.a %}{% endfor %}{{ n.a }}",
    "join": "{{ range(99999)|join('a' * 100000) }}",
    "list": "{{ ([1] * 10**10)|length }}",
    "output": "{% for i in range(90000) %}{{ 'a' * 10000 }}{% endfor %}",
}
RECURSION = {
    "self include": "{% include 'chat' %}",
    "self import": "{% import 'chat' as c %}",
    "self extends": "{% extends 'chat' %}",
    "macro": BODY.replace("%s", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"),
    "parentheses": BODY.replace("%s", "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}"),
    "sum": BODY.replace("%s", "{{ " + "+".join(["1"] * 20000) + " }}"),
    "nested for": "{% for a in [1] %}" * 30 + "{% endfor %}" * 30,
}
ESCAPES = [
    "{{ ''.__class__ }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''|attr('__class__') }}",
    "{{ ''['__class__'] }}",
    "{{ '{0.__class__}'.format('') }}",
    "{{ '{0.__class__}'.format_map({'0': ''}) }}",
    "{{ ('{0.__class__}'|attr('format'))('') }}",
    "{% set f = '{0.__class__.__mro__}'.format %}{{ f('') }}",
    "{{ cycler.__init__.__globals__ }}",
    "{{ range.__self__ }}",
    "{{ joiner.__init__.__builtins__ }}",
    "{{ namespace.__class__ }}",
    "{{ (input.split).__self__.spans.__class__ }}",
    "{{ input.__str__.__globals__ }}",
    "{{ persona.__class__ }}",
    "{{ input.spans }}",
    "{{ input.upper().spans }}",
    "{{ self.__init__ }}",
    "{{ lipsum() }}",
    "{{ config }}",
    "{{ request }}",
    "{{ session }}",
    "{{ g }}",
    "{{ url_for('x') }}",
    "{{ get_flashed_messages() }}",
    "{{ environment }}",
    "{{ examples.append(1) }}",
    "{{ persona.update({'a': 1}) }}",
    "{{ persona.pop('name') }}",
    "{% set _ = examples.clear() %}",
]


@pytest.fixture(scope="module")
def quick() -> Iterator[Rendering]:
    sandbox = Sandbox(deadline_s=0.5)
    yield Rendering(sandbox)
    sandbox.close()


@pytest.mark.parametrize("name", [*CPU, *MEMORY])
def test_costly_template_is_ended_and_the_next_render_works(quick: Rendering, name: str) -> None:
    began = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(PromptError):
        quick.prompt(BODY.replace("%s", (CPU | MEMORY)[name]))
    # Left to themselves they take from half a minute to years.
    assert time.monotonic() - began < 8
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024
    assert [("user", "x")] == quick.pairs(BODY.replace("%s", "{{ input }}"))


@pytest.mark.parametrize("name", RECURSION)
def test_endless_recursion_is_a_template_error(quick: Rendering, name: str) -> None:
    with pytest.raises(PromptError):
        quick.prompt(RECURSION[name])


@pytest.mark.parametrize("escape", ESCAPES)
def test_nothing_outside_the_prompt_is_in_reach(quick: Rendering, escape: str) -> None:
    with pytest.raises(PromptError):
        quick.prompt(BODY.replace("%s", escape))


LOOPS = """\
{% message 'user' %}
{% for i in range(99999) %}
{% for j in range(99999) %}{% endfor %}
{% endfor %}
{% endmessage %}"""


def test_what_takes_too_long_is_told_with_its_line_and_the_worker_lives() -> None:
    # Long enough that a busy computer leaves the worker time to stop by itself.
    sandbox = Sandbox(deadline_s=4)
    rendering = Rendering(sandbox)
    rendering.prompt(BODY)
    (before,) = sandbox._idle
    with pytest.raises(PromptLimitError, match="it was stopped here") as caught:
        rendering.prompt(LOOPS)
    assert ("chat.jinja", 3) == (caught.value.file, caught.value.line)
    assert [before] == sandbox._idle
    assert [("user", "x")] == rendering.pairs(BODY.replace("%s", "{{ input }}"))
    sandbox.close()


def test_output_beyond_the_limit_names_the_template(rendering: Rendering) -> None:
    with pytest.raises(PromptLimitError, match="more than 4,000,000 characters") as caught:
        rendering.prompt(BODY.replace("%s", "{{ 'x' * 5000000 }}"))
    assert "chat.jinja:1" == f"{caught.value.file}:{caught.value.line}"


def test_costly_renders_leave_places_to_those_that_are_known_to_be_quick() -> None:
    sandbox = Sandbox(workers=4, deadline_s=2)
    rendering = Rendering(sandbox)
    # What only prints the input is rendered once, and then no more.
    innocent = BODY.replace("%s", "{{ input | upper }}")
    while not sandbox._quick:
        rendering.pairs(innocent)
    ended: list[str] = []

    def render_costly(number: int) -> None:
        with pytest.raises(PromptLimitError):
            rendering.prompt(f"{{# {number} #}}{LOOPS}")
        ended.append("costly")

    threads = [threading.Thread(target=render_costly, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    assert [("user", "X")] == rendering.pairs(innocent)
    ended.append("quick")
    for thread in threads:
        thread.join()
    sandbox.close()
    assert ["quick", *["costly"] * 4] == ended


def test_default_deadline_is_a_second_and_a_half() -> None:
    sandbox = Sandbox()
    rendering = Rendering(sandbox)
    rendering.prompt(BODY)
    began = time.monotonic()
    with pytest.raises(PromptLimitError, match=r"longer than 1\.5 s"):
        rendering.prompt(BODY.replace("%s", CPU["nested loops"]))
    assert time.monotonic() - began < 8
    sandbox.close()


def p99(waits: list[float]) -> float:
    return statistics.quantiles(waits, n=100)[98]


def wait_for_honest(rendering: Rendering, is_over: Callable[[], bool]) -> list[float]:
    """Render what is honest until it is over; the seconds that each took."""
    honest = BODY.replace("%s", "{{ input }}")
    waits = []
    while not is_over() or len(waits) <= 20:
        began = time.monotonic()
        rendering.prompt(honest)
        waits.append(time.monotonic() - began)
        time.sleep(0.005)
    return waits


def added_wait(rendering: Rendering) -> float:
    """By how much the p99 of honest renders grows while two hostile ones burn."""
    # What others do on this machine at this moment is no fault of the templates.
    quiet = wait_for_honest(rendering, lambda: True)

    def burn() -> None:
        with pytest.raises(PromptLimitError):
            rendering.prompt(BODY.replace("%s", CPU["nested loops"]))

    burners = [threading.Thread(target=burn) for _ in range(2)]
    for burner in burners:
        burner.start()
    waits = wait_for_honest(rendering, lambda: not any(burner.is_alive() for burner in burners))
    for burner in burners:
        burner.join()
    return p99(waits) - p99(quiet)


def test_others_go_on_while_a_hostile_template_burns() -> None:
    sandbox = Sandbox(deadline_s=1.0)
    rendering = Rendering(sandbox)
    rendering.prompt(BODY)
    # Whoever waited for a hostile one would wait the second until its deadline. Best of three: on a busy machine
    # any one of them may have had to wait for something else.
    assert any(added_wait(rendering) < 0.5 for _ in range(3))
    sandbox.close()


def test_a_value_that_a_template_tries_to_change_is_whole_at_the_next_render(
    quick: Rendering,
) -> None:
    persona = {
        "name": "p",
        "system": "s",
        "examples": [{"user": "u", "assistant": "a"}],
    }
    with pytest.raises(PromptError):
        quick.prompt(BODY.replace("%s", "{{ examples.append(1) }}"), persona=persona)
    pairs = quick.pairs(BODY.replace("%s", "{{ examples|length }}"), persona=persona)
    assert [("user", "1")] == pairs


def test_worker_does_not_see_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-0000")
    sandbox = Sandbox()
    Rendering(sandbox).prompt(BODY)
    worker = sandbox._idle[0]
    with open(f"/proc/{worker._process.pid}/environ", "rb") as file:  # noqa: PTH123
        assert b"canary" not in file.read()
    sandbox.close()


def test_worker_that_starts_among_a_thousand_open_files_works() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, limits[1]), limits[1]))
    sandbox = Sandbox()
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        stack.callback(sandbox.close)
        for _ in range(1100):
            stack.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        assert Rendering(sandbox).pairs(BODY.replace("%s", "{{ input }}")) == [("user", "x")]


def test_worker_that_is_busy_while_the_sandbox_closes_ends_as_well() -> None:
    sandbox = Sandbox(deadline_s=10)
    rendering = Rendering(sandbox)
    rendering.prompt(BODY)
    process = sandbox._idle[0]._process
    slow = "{% for i in range(9000) %}{% for j in range(300) %}{% endfor %}{% endfor %}"
    busy = threading.Thread(target=rendering.prompt, args=(BODY.replace("%s", slow),))
    busy.start()
    while sandbox._idle:
        time.sleep(0.001)
    sandbox.close()
    busy.join()
    assert ([], True) == (sandbox._idle, process.poll() is not None)


def test_closing_ends_the_workers() -> None:
    sandbox = Sandbox()
    Rendering(sandbox).prompt(BODY)
    process = sandbox._idle[0]._process
    sandbox.close()
    assert process.poll() is not None
