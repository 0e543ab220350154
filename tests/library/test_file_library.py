"""The library follows its folders: a change is live at the next call, and one bad file harms no other."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from rolebook.core.errors import FileError, NotFoundError
from rolebook.library.file_library import FileLibrary

GOOD = "name: {name}\nsystem: |\n  You are {name}.\n"


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    (tmp_path / "personas").mkdir()
    (tmp_path / "templates").mkdir()
    for name in ("chat", "base"):
        (tmp_path / "templates" / f"{name}.jinja").write_text("{% history %}", "utf-8")
    return tmp_path


@pytest.fixture
def library(folders: Path) -> FileLibrary:
    return FileLibrary(folders / "personas", folders / "templates")


def write(folders: Path, name: str, text: str) -> Path:
    path = folders / "personas" / name
    path.write_text(text, "utf-8")
    return path


def ids(library: FileLibrary) -> list[str]:
    return [resolved.persona.id for resolved in library.personas()]


def test_a_file_is_live_at_the_next_call(folders: Path, library: FileLibrary) -> None:
    assert [] == ids(library)
    path = write(folders, "ada.yaml", GOOD.format(name="Ada"))
    assert "Ada" == library.get_persona("ada").persona.name
    write(folders, "ada.yaml", GOOD.format(name="Eva"))
    assert "Eva" == library.get_persona("ada").persona.name
    path.unlink()
    with pytest.raises(NotFoundError, match="no persona 'ada'"):
        library.get_persona("ada")


def test_a_file_that_is_seen_and_at_once_deleted_is_gone(
    folders: Path, library: FileLibrary
) -> None:
    path = write(folders, "ada.yaml", GOOD.format(name="Ada"))
    assert ["ada"] == ids(library)
    path.unlink()
    assert [] == ids(library)


def test_an_unchanged_file_gives_the_very_same_persona(folders: Path, library: FileLibrary) -> None:
    write(folders, "ada.yaml", GOOD.format(name="Ada"))
    time.sleep(0.03)  # A file this young is read again: a second write could carry the same time.
    before = library.get_persona("ada")
    write(folders, "bob.yaml", GOOD.format(name="Bob"))
    assert library.get_persona("ada") is before


def test_one_broken_file_among_fifty_is_listed_and_the_others_load(
    folders: Path, library: FileLibrary
) -> None:
    for number in range(49):
        write(folders, f"p{number}.yaml", GOOD.format(name=f"P{number}"))
    write(folders, "bad.yaml", "name: Bad\nsystem: |\n  x\nsampling: {temperature: warm}\n")
    assert 49 == len(ids(library))
    (problem,) = library.problems()
    assert problem.file.endswith("bad.yaml")
    assert (4, 25) == (problem.line, problem.column)
    assert "sampling.temperature must be a number from 0 to 2, got 'warm'." == problem.text
    with pytest.raises(FileError, match="must be a number from 0 to 2"):
        library.get_persona("bad")


def test_broken_file_keeps_its_last_good_version(folders: Path, library: FileLibrary) -> None:
    write(folders, "ada.yaml", GOOD.format(name="Ada"))
    good = library.get_persona("ada")
    write(folders, "ada.yaml", "name: Ada\n\tsystem: x\n")
    entry = library.get_entry("ada")
    assert (True, good) == (entry.is_stale, entry.resolved)
    assert entry.errors
    write(folders, "ada.yaml", GOOD.format(name="Mended"))
    assert (False, "Mended") == (
        library.get_entry("ada").is_stale,
        library.get_persona("ada").persona.name,
    )


def test_maps_merge_key_by_key_and_all_else_is_replaced(
    folders: Path, library: FileLibrary
) -> None:
    write(
        folders,
        "teacher.yaml",
        """\
name: Teacher
system: base {{ subject }} {{ level }}
tags: [a, b]
sampling: {temperature: 0.7, max_tokens: 600}
variables:
  subject: mathematics
  level: {type: choice, choices: [beginner, expert], default: beginner}
examples: [{user: u, assistant: a}]
""",
    )
    write(
        folders,
        "child.yaml",
        """\
name: Child
extends: teacher
tags: [c]
sampling: {temperature: 0.2}
variables:
  level: expert
examples: []
""",
    )
    persona = library.get_persona("child").persona
    assert ("Child", "base {{ subject }} {{ level }}", ("c",)) == (
        persona.name,
        persona.system,
        persona.tags,
    )
    assert {"temperature": 0.2, "max_tokens": 600} == persona.parameters
    assert {"subject": "mathematics", "level": "expert"} == persona.parse_variables({})
    assert () == persona.examples


def test_fault_in_a_merged_persona_names_the_file_it_stands_in(
    folders: Path, library: FileLibrary
) -> None:
    write(folders, "base.yaml", "name: B\nsystem: s\nsampling:\n  top_p: 7\n")
    write(folders, "child.yaml", "extends: base\nname: C\n")
    problems = {problem.file.rsplit("/", 1)[-1]: problem for problem in library.problems()}
    assert {"base.yaml"} == set(problems)
    assert 4 == problems["base.yaml"].line
    write(folders, "child.yaml", "extends: base\nname: C\nsampling:\n  top_p: 0.5\n")
    assert ["child"] == ids(library)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a.yaml": "extends: gone\nname: A\n"}, "There is no persona 'gone' to extend."),
        (
            {"a.yaml": "extends: b@production\nname: A\n", "b.yaml": "name: B\nsystem: s\n"},
            "extends another one as its file is now, so no label or revision can be named here: write 'b'",
        ),
        ({"a.yaml": "name: A\nextends: a\n"}, "extends itself"),
        (
            {
                "a.yaml": "name: A\nextends: b\nsystem: s\n",
                "b.yaml": "name: B\nextends: a\nsystem: s\n",
            },
            "extends itself",
        ),
    ],
)
def test_base_that_cannot_be_used_is_said_at_its_line(
    folders: Path, library: FileLibrary, files: dict[str, str], words: str
) -> None:
    for name, text in files.items():
        write(folders, name, text)
    with pytest.raises(FileError) as caught:
        library.get_persona("a")
    assert words in str(caught.value)
    line = (
        files["a.yaml"]
        .split("\n")
        .index(next(x for x in files["a.yaml"].split("\n") if "extends" in x))
    )
    assert line + 1 == caught.value.problems[0].line


def test_child_of_a_broken_base_keeps_its_last_good_version(
    folders: Path, library: FileLibrary
) -> None:
    write(folders, "base.yaml", GOOD.format(name="B"))
    write(folders, "child.yaml", "extends: base\nname: C\n")
    assert ["base", "child"] == ids(library)
    write(folders, "base.yaml", "name: [\n")
    assert library.get_entry("child").is_stale
    assert "You are B.\n" == library.get_persona("child").persona.system


def test_unknown_template_is_a_problem_at_its_line(folders: Path, library: FileLibrary) -> None:
    write(folders, "ada.yaml", "name: Ada\nsystem: s\ntemplate: chatt\n")
    (problem,) = library.problems()
    assert (
        3,
        "There is no prompt template 'chatt'. Did you mean 'chat'? There are: base, chat.",
    ) == (
        problem.line,
        problem.text,
    )


def test_edited_template_makes_a_new_revision_with_what_it_includes(
    folders: Path, library: FileLibrary
) -> None:
    write(folders, "ada.yaml", GOOD.format(name="Ada"))
    template = folders / "templates" / "chat.jinja"
    template.write_text("{% include ['part.jinja', 'gone'] %}", "utf-8")
    part = folders / "templates" / "part.jinja"
    part.write_text("one", "utf-8")
    before = library.get_persona("ada")
    assert {"chat", "part"} == set(before.templates)
    part.write_text("two, longer", "utf-8")
    after = library.get_persona("ada")
    assert before.revision.id != after.revision.id


@pytest.mark.parametrize(
    "name", ["Teacher.yaml", "-rf.yaml", "con.yaml", "Zoë.yaml", "a b.yaml", "老师.yaml"]
)
def test_file_name_that_makes_no_id_is_a_problem(
    folders: Path, library: FileLibrary, name: str
) -> None:
    write(folders, name, GOOD.format(name="A"))
    (problem,) = library.problems()
    assert problem.file.endswith(name)
    assert ("Windows keeps" if name == "con.yaml" else "file name makes no id") in problem.text
    assert [] == ids(library)


def test_second_file_with_the_same_id_is_refused_and_both_are_named(
    folders: Path, library: FileLibrary
) -> None:
    write(folders, "ada.yaml", GOOD.format(name="Ada"))
    write(folders, "ada.yml", GOOD.format(name="Other"))
    (problem,) = library.problems()
    assert problem.file.endswith("ada.yml")
    assert "ada.yaml" in problem.text
    assert "Ada" == library.get_persona("ada").persona.name


def test_hidden_and_foreign_files_are_left_alone(folders: Path, library: FileLibrary) -> None:
    for name in (".hidden.yaml", ".rolebook-1-1", "notes.txt", "ada.yaml~"):
        write(folders, name, "{{{")
    assert ([], []) == (ids(library), list(library.problems()))


def test_missing_folder_is_a_problem_not_a_crash(tmp_path: Path) -> None:
    library = FileLibrary(tmp_path / "gone", tmp_path / "gone too")
    assert [] == ids(library)
    assert 2 == len(library.problems())


def test_folder_that_appears_later_is_read(tmp_path: Path) -> None:
    library = FileLibrary(tmp_path / "personas", tmp_path / "templates")
    assert [] == ids(library)
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "chat.jinja").write_text("{% history %}", "utf-8")
    (tmp_path / "personas").mkdir()
    write(tmp_path, "ada.yaml", GOOD.format(name="Ada"))
    assert ["ada"] == ids(library)


@pytest.mark.parametrize("source", [b"\xff\xfe\x00", b"x" * 300_000, b"\xc3"])
def test_unusable_template_is_a_problem_and_the_last_good_one_stays(
    folders: Path, library: FileLibrary, source: bytes
) -> None:
    write(folders, "ada.yaml", GOOD.format(name="Ada"))
    assert ["ada"] == ids(library)
    (folders / "templates" / "chat.jinja").write_bytes(source)
    assert any(problem.file.endswith("chat.jinja") for problem in library.problems())
    assert "{% history %}" == library.templates()["chat"]
    assert ["ada"] == ids(library)


def test_unfinished_write_of_a_killed_process_is_removed_when_it_is_old(folders: Path) -> None:
    old = write(folders, ".rolebook-77-1", "half")
    os.utime(old, (1, 1))
    fresh = write(folders, ".rolebook-78-1", "half")
    FileLibrary(folders / "personas", folders / "templates")
    assert [fresh.name] == [path.name for path in (folders / "personas").iterdir()]


def test_readers_see_whole_personas_while_files_change(folders: Path, library: FileLibrary) -> None:
    write(folders, "ada.yaml", GOOD.format(name="Ada"))
    library.get_persona("ada")
    stop = threading.Event()
    seen: set[str] = set()

    def read() -> None:
        while not stop.is_set():
            seen.add(library.get_persona("ada").persona.system)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for number in range(50):
        write(folders, "ada.yaml", GOOD.format(name="Ada" if number % 2 else "Eva"))
    stop.set()
    for reader in readers:
        reader.join()
    assert seen <= {"You are Ada.\n", "You are Eva.\n"}
