"""Rendering a persona of 28 messages, against bare compiled Jinja2 in the same run.

The prompt: a system text with six variables, three primed turns, ten earlier turns, and an input. The
first peer is one compiled Jinja2 template that makes the same text with nothing around it: no sandbox,
no messages, no provenance, no limits. The second makes the same 28 messages, each by a template of its
own, as one must with bare Jinja2 so that no value can open a role.

    python -m benchmarks.rendering
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import jinja2

from rolebook.core.persona import ResolvedPersona, parse_persona
from rolebook.core.prompt import PromptRenderer, build_request, history_messages, role_data
from rolebook.core.render import Renderer
from rolebook.core.sandbox import Sandbox

ROUNDS, REPEATS = 9, 400
NAMES = ["subject", "level", "tone", "goal", "place", "pupil"]
SYSTEM = "You teach. " + " ".join(f"The {name} is {{{{ {name} }}}}, keep to it." for name in NAMES)
CHAT = """{% message "system" %}{{ system }}{% endmessage %}
{% for example in examples %}
{% message "user" %}{{ example.user }}{% endmessage %}
{% message "assistant" %}{{ example.assistant }}{% endmessage %}
{% endfor %}
{% history %}
{% message "user" %}{{ input }}{% endmessage %}
"""
BARE = (
    "system: "
    + SYSTEM
    + """
{% for example in examples %}user: {{ example.user }}
assistant: {{ example.assistant }}
{% endfor %}{% for turn in history %}user: {{ turn.user }}
assistant: {{ turn.assistant }}
{% endfor %}user: {{ input }}
"""
)
WORDS = "the quick brown fox jumps over the lazy dog and runs away into the wood "
EXAMPLES = [{"user": WORDS + str(i), "assistant": WORDS * 3 + str(i)} for i in range(3)]
HISTORY = [(WORDS + str(i), WORDS * 4 + str(i)) for i in range(10)]


def _microseconds(render: Callable[[str], object]) -> float:
    began = time.perf_counter()
    for number in range(REPEATS):
        render(f"input {number}")
    return (time.perf_counter() - began) / REPEATS * 1e6


def main() -> None:
    """Run the rounds, alternating, and print medians and ratios."""
    persona = parse_persona(
        "p",
        {
            "name": "p",
            "system": SYSTEM,
            "examples": EXAMPLES,
            "variables": {name: {"default": name.upper()} for name in NAMES},
        },
    )
    resolved = ResolvedPersona(persona, {"chat": CHAT})
    values = persona.parse_variables({})
    history = history_messages(HISTORY)
    bare = jinja2.Environment().from_string(BARE)
    turns = [{"user": user, "assistant": answer} for user, answer in HISTORY]
    system = jinja2.Environment().from_string(SYSTEM)
    one = jinja2.Environment().from_string("{{ content }}")

    def messages_by_templates(text: str) -> list[dict[str, str]]:
        pairs = [(e["user"], e["assistant"]) for e in EXAMPLES] + HISTORY
        contents = [content for pair in pairs for content in pair] + [text]
        return [{"role": "system", "content": system.render(values)}] + [
            {"role": "assistant" if index % 2 else "user", "content": one.render(content=content)}
            for index, content in enumerate(contents)
        ]

    in_process = Renderer(role_data(resolved))
    sandbox = Sandbox()
    renderer = PromptRenderer(sandbox)
    assert len(renderer.render(resolved, values, history, "x").messages) == 28

    renders: dict[str, Callable[[str], object]] = {
        "bare Jinja2, compiled once, text only": lambda text: bare.render(
            **values, examples=EXAMPLES, history=turns, input=text
        ),
        "bare Jinja2, one compiled template a message": messages_by_templates,
        "Rolebook, in the worker (sandbox, messages, provenance)": lambda text: in_process.render(
            build_request(resolved, values, text)
        ),
        "Rolebook, whole (and limits of time and memory)": lambda text: renderer.render(
            resolved, values, history, text
        ),
    }
    figures: dict[str, list[float]] = {name: [] for name in renders}
    for render in renders.values():
        render("warm")
    for _ in range(ROUNDS):
        for name, render in renders.items():
            figures[name].append(_microseconds(render))
    sandbox.close()
    peer = statistics.median(figures["bare Jinja2, compiled once, text only"])
    for name, rounds in figures.items():
        median = statistics.median(rounds)
        print(
            f"{name:58} {median:7.1f} us [{min(rounds):.1f}–{max(rounds):.1f}]  {median / peer:.2f} x"
        )


if __name__ == "__main__":
    main()
