"""The short way of importing the openai client: less is imported, and nothing is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.fake_upstream import FakeUpstream

LEAN = "from rolebook.upstream.lean_import import import_lean; import_lean(); import openai, sys\n"


def run(code: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-c", LEAN + code], capture_output=True, text=True, timeout=30, check=False
    )
    assert 0 == finished.returncode, finished.stderr
    return finished.stdout


def test_types_of_other_endpoints_are_not_imported() -> None:
    modules = run("import rolebook.upstream.client; print(*sys.modules)").split()
    assert "openai._client" in modules
    assert [] == [name for name in modules if name.startswith("openai.types.chat")]
    assert sum(name.startswith("openai.types") for name in modules) < 20


def test_names_that_a_call_needs_are_those_of_the_whole_package() -> None:
    code = (
        "names = 'OpenAI', 'Omit', 'APIStatusError', 'APIConnectionError'\n"
        "early = [getattr(openai, name) for name in names]\n"
        "assert '_gather' in vars(openai)\n"
        "openai.AsyncOpenAI\n"
        "assert '_gather' not in vars(openai)\n"
        "print(early == [getattr(openai, name) for name in names])"
    )
    assert "True\n" == run(code)


@pytest.mark.parametrize("package", ["openai", "openai.types.chat", "openai.types.responses"])
def test_every_name_is_still_there(package: str) -> None:
    code = (
        "import ast, importlib, pathlib\n"
        f"package = importlib.import_module({package!r})\n"
        "for node in ast.parse(pathlib.Path(package.__file__).read_text()).body:\n"
        "    for alias in node.names if isinstance(node, ast.ImportFrom) and node.level else ():\n"
        "        assert alias.name == '*' or hasattr(package, alias.asname or alias.name)\n"
        "        print(alias.name)"
    )
    assert len(run(code).split()) > 20


def test_name_that_no_package_has_is_missing() -> None:
    assert "no attribute 'Nothing'" in run(
        "try:\n    openai.types.responses.Nothing\nexcept AttributeError as error:\n    print(error)"
    )


@pytest.mark.parametrize("arguments", ["", ", stream=True"])
def test_client_works_as_ever(arguments: str) -> None:
    with FakeUpstream() as fake:
        code = (
            f"client = openai.OpenAI(api_key='sk-x', base_url={fake.base_url!r})\n"
            "message = {'role': 'user', 'content': 'Hi'}\n"
            f"reply = client.chat.completions.create(model='ok', messages=[message]{arguments})\n"
            "print(reply if hasattr(reply, 'choices') else list(reply))"
        )
        assert "finish_reason='stop'" in run(code)
