"""What costs a third of a second is imported when it is needed and not before."""

import subprocess
import sys

import pytest

HEAVY = ("openai", "httpx2", "httptools", "pydantic", "tiktoken", "genai_prices")


def loaded_after(code: str) -> set[str]:
    """The heavy libraries that a fresh interpreter holds after ``code``."""
    report = f"import sys\n{code}\nprint(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", report], check=True, capture_output=True, text=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module",
    [
        *("openai_upstream", "rehearsal", "tokens", "prices", "discovery", "redaction"),
        *("error_mapping", "attempts", "key_pool", "standing_in", "recording"),
    ],
)
def test_no_module_imports_a_heavy_library_before_it_is_used(module: str) -> None:
    assert loaded_after(f"import rolebook.upstream.{module}") == set()


def test_upstream_is_made_without_the_client() -> None:
    assert loaded_after("from rolebook.upstream.rehearsal import *; rehearsal_upstream()") == set()


def test_warm_up_imports_the_client_in_the_background() -> None:
    code = (
        "import gc, threading\n"
        "from rolebook.upstream.openai_upstream import warm_up\n"
        "warm_up()\n"
        "[thread.join() for thread in threading.enumerate() if thread.name == 'rolebook-warm-up']\n"
        "assert gc.isenabled()"
    )

    assert {"openai", "httpx2"} <= loaded_after(code)
