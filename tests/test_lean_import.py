"""The short way of importing the openai client: less is imported, and nothing is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.fake_upstream import FakeUpstream

LEAN = "from rolebook.lean_import import import_lean; import_lean(); import openai, sys\n"


def run(code: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-c", LEAN + code], capture_output=True, text=True, timeout=30, check=False
    )
    assert 0 == finished.returncode, finished.stderr
    return finished.stdout


def test_types_of_other_endpoints_are_not_imported() -> None:
    modules = run("import rolebook.upstream.client; print(*sys.modules)").split()
    assert "openai._client" in modules
    assert [] == [
        name for name in modules if name.startswith(("httpcore2._sync", "httpcore2._async"))
    ]
    assert [] == [name for name in modules if name.startswith("openai.types.chat")]
    assert sum(name.startswith("openai.types") for name in modules) < 20


@pytest.mark.parametrize(
    ("package", "needed", "further"),
    [
        ("openai", "OpenAI Omit APIStatusError APIConnectionError", "DEFAULT_TIMEOUT"),
        ("httpcore2", "NetworkStream SyncBackend SOCKET_OPTION ReadError", "ConnectionPool"),
    ],
)
def test_names_that_a_call_needs_are_those_of_the_whole_package(
    package: str, needed: str, further: str
) -> None:
    code = (
        f"import {package} as package\n"
        f"early = [getattr(package, name) for name in {needed.split()}]\n"
        f"whole = '{package}._whole_package'\n"
        "assert whole not in sys.modules\n"
        f"package.{further}\n"
        "assert whole in sys.modules\n"
        f"print(early == [vars(package)[name] for name in {needed.split()}])"
    )
    assert "True\n" == run(code)


@pytest.mark.parametrize(
    "package", ["openai", "openai.types.chat", "openai.types.responses", "httpcore2"]
)
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


def test_event_loops_are_loaded_by_whoever_wants_one() -> None:
    code = (
        "import asyncio, rolebook.upstream.client\n"
        "print('asyncio.base_events' in sys.modules)\n"
        "async def answer(): return asyncio.current_task() is not None\n"
        "print(asyncio.run(answer()))\n"
        "print(all(hasattr(asyncio, name) for name in asyncio.__all__))"
    )
    assert ["False", "True", "True"] == run(code).split()


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


def test_nothing_that_an_upstream_is_asked_for_takes_the_long_way() -> None:
    with FakeUpstream() as fake:
        code = (
            "from contextlib import suppress\n"
            "from rolebook.core.completion import CompletionRequest\n"
            "from rolebook.core.errors import UpstreamError\n"
            "from rolebook.core.message import Message\n"
            "from rolebook.core.upstream import UpstreamSettings\n"
            "from rolebook.upstream.openai_upstream import OpenAIUpstream\n"
            f"upstream = OpenAIUpstream(UpstreamSettings('x', base_url={fake.base_url!r}))\n"
            "print(len(upstream.models()))\n"
            "messages = Message('user', 'Hi'),\n"
            "for model, is_streamed in ('ok', True), ('ok', False), ('401', True):\n"
            "    with suppress(UpstreamError):\n"
            "        request = CompletionRequest(messages, model, is_streamed=is_streamed)\n"
            "        print(list(upstream.stream(request))[-1])\n"
            "print([name for name in sys.modules if name.endswith('_whole_package')])"
        )
        said = run(code)
    assert "Completion(" in said
    assert "[]" == said.splitlines()[-1]


def test_what_sqlite_utils_converts_with_is_there_for_who_converts() -> None:
    code = (
        "import sqlite_utils\n"
        "print('dateutil' in sys.modules, sqlite_utils.utils.recipes.parsedate('2 January 2026'))"
    )
    assert "False 2026-01-02\n" == run(code)


def test_patterns_that_are_made_late_find_what_they_find() -> None:
    code = (
        "import re, sqlite_utils, yaml\n"
        "late = yaml.reader.Reader.NON_PRINTABLE\n"
        "print(isinstance(late, re.Pattern), isinstance(re.compile('a'), re.Pattern))\n"
        "print(late.search('a\\x01').start(), late.pattern[:2])\n"
        "db = sqlite_utils.Database(memory=True)\n"
        "db['notes'].insert({'text': 'a'}).enable_fts(['text'])\n"
        "print(db['notes_fts'].virtual_table_using)"
    )
    assert ["False True", "1 [^", "FTS5"] == run(code).splitlines()


def test_schemas_of_pydantic_are_dictionaries_as_ever() -> None:
    code = (
        "from pydantic import BaseModel\n"
        "from pydantic_core import core_schema\n"
        "from typing_extensions import TypedDict, is_typeddict\n"
        "print(is_typeddict(core_schema.IntSchema), core_schema.CoreConfig(title='x'))\n"
        "print(core_schema.int_schema(ge=1))\n"
        "class Point(TypedDict, total=False):\n"
        "    x: int\n"
        "class Model(BaseModel, str_max_length=3, strict=True):\n"
        "    point: Point\n"
        "print(is_typeddict(Point), Model(point={'x': 1}).model_dump())"
    )
    assert [
        "False {'title': 'x'}",
        "{'type': 'int', 'ge': 1}",
        "True {'point': {'x': 1}}",
    ] == run(code).splitlines()


def test_package_that_finds_its_names_itself_is_asked() -> None:
    assert "True\n" == run("import anyio\nprint(anyio.Lock is not None)")


def test_threads_that_ask_for_the_whole_at_once_all_get_it() -> None:
    code = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "names = ['DEFAULT_TIMEOUT', 'AsyncOpenAI', 'DEFAULT_MAX_RETRIES', 'NotGiven'] * 2\n"
        "with ThreadPoolExecutor(len(names)) as pool:\n"
        "    print(len([*pool.map(lambda name: getattr(openai, name), names)]))"
    )
    assert "8\n" == run(code)
