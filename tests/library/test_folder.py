"""A folder may hold anything; only regular files of its own are read, and the rest is named."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rolebook.core.errors import InputError
from rolebook.library.file_library import FileLibrary
from rolebook.library.folder import MAX_FILES, list_files, printable, read_file

GOOD = "name: Good\nsystem: Hi.\n"
LIMIT = 1000


def bind(path: Path) -> None:
    """A socket of that name; it stays when it is closed."""
    with socket.socket(socket.AF_UNIX) as unix:
        # A path of a socket has room for about a hundred bytes only.
        here = os.open(path.parent, os.O_RDONLY)
        unix.bind(f"/proc/self/fd/{here}/{path.name}")
        os.close(here)


#: What somebody may put in the place of a file, and a part of what is said about it.
FOREIGN: dict[str, tuple[Callable[[Path], object], str]] = {
    "folder": (Path.mkdir, "This is a folder and no file"),
    "pipe": (os.mkfifo, "This is a pipe and no file"),
    "socket": (bind, "This is a socket and no file"),
    "secret": (lambda path: path.symlink_to("/etc/passwd"), "outside of its folder"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "outside of its folder"),
    "sibling": (lambda path: path.symlink_to("../note"), "outside of its folder"),
    "nowhere": (lambda path: path.symlink_to("gone.yaml"), "leads to no file"),
    "itself": (lambda path: path.symlink_to(path.name), "leads to no file"),
}


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for name in ("personas", "templates"):
        (tmp_path / name).mkdir()
    (tmp_path / "note").touch()
    (tmp_path / "personas/good.yaml").write_text(GOOD, "utf-8")
    (tmp_path / "templates/chat.jinja").write_text("{% history %}", "utf-8")
    return tmp_path


def open_library(folders: Path) -> FileLibrary:
    return FileLibrary(folders / "personas", folders / "templates")


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_no_file_of_the_folder_is_named_and_the_rest_is_read(
    folders: Path, kind: str
) -> None:
    make, words = FOREIGN[kind]
    make(folders / "personas/odd.yaml")
    make(folders / "templates/odd.jinja")
    library = open_library(folders)
    assert ["good"] == [entry.id for entry in library.entries()]
    assert ["chat"] == list(library.templates())
    problems = library.problems()
    assert ["odd.yaml", "odd.jinja"] == [problem.file.rpartition("/")[2] for problem in problems]
    assert all(words in problem.text for problem in problems)
    assert {(1, 1)} == {(problem.line, problem.column) for problem in problems}


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_takes_the_place_of_a_file_after_the_look_is_not_read(
    folders: Path, kind: str
) -> None:
    make, _ = FOREIGN[kind]
    path = folders / "personas/odd.yaml"
    make(path)
    # A pipe would never be opened, and a device never end.
    with pytest.raises(InputError):
        read_file(path, limit=LIMIT)


def test_link_inside_the_folder_is_a_file(folders: Path) -> None:
    versions = folders / "personas/..2026"
    versions.mkdir()
    (versions / "linked.yaml").write_text(GOOD, "utf-8")
    (folders / "personas/..data").symlink_to("..2026")
    (folders / "personas/linked.yaml").symlink_to("..data/linked.yaml")
    library = open_library(folders)
    assert (["good", "linked"], []) == (
        [resolved.persona.id for resolved in library.personas()],
        list(library.problems()),
    )


def test_library_whose_folders_are_links_is_read(folders: Path) -> None:
    (folders / "here").symlink_to(folders / "personas")
    (folders / "there").symlink_to(folders / "templates")
    library = FileLibrary(folders / "here", folders / "there")
    assert (["good"], []) == ([entry.id for entry in library.entries()], list(library.problems()))


def test_file_without_end_is_refused_by_its_size(folders: Path) -> None:
    for name in ("personas/sparse.yaml", "templates/sparse.jinja"):
        with (folders / name).open("wb") as file:
            file.truncate(50 * 2**30)
    problems = open_library(folders).problems()
    assert 2 == len(problems)
    assert all("has 53687091200 bytes; at most 262144 are read" in p.text for p in problems)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"a\nb", r"a\nb"),
        (b"\xff\xfe", r"\xff\xfe"),
        (b"\x1b[31mred", r"\x1b[31mred"),
        ("a\u202egpj".encode(), r"a\u202egpj"),
    ],
)
def test_name_that_cannot_be_printed_is_shown_with_escapes(
    folders: Path, name: bytes, expected: str
) -> None:
    for folder, suffix in (("personas", b".yaml"), ("templates", b".jinja")):
        Path(os.fsdecode(os.fsencode(folders / folder) + b"/" + name + suffix)).write_text(GOOD)
    files = [problem.file for problem in open_library(folders).problems()]
    assert [f"{expected}.yaml", f"{expected}.jinja"] == [file.rpartition("/")[2] for file in files]
    assert all(file.isprintable() and file.encode() for file in files)


def test_printable_name_stays_as_it_is() -> None:
    assert "Zoë 老师 🎓.yaml" == printable("Zoë 老师 🎓.yaml")


def test_folder_of_too_many_files_is_read_as_far_as_the_limit(folders: Path) -> None:
    for number in range(MAX_FILES + 5):
        (folders / f"personas/f{number:06}.yaml").touch()
    listing = list_files(folders / "personas", (".yaml",))
    assert MAX_FILES == len(listing.files)
    (problem,) = listing.problems
    assert "more than 10000 files: those from 'f010000.yaml' on are left out." in problem.text


@contextmanager
def nobody() -> Iterator[None]:
    """Another user for a while, as the superuser may read everything."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_folder_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "personas").mkdir(mode=0)
    with nobody():
        (problem,) = list_files(tmp_path / "personas", (".yaml",)).problems
    assert "not allowed to read it: change its permissions" in problem.text


def test_file_that_may_not_be_read_is_named(folders: Path) -> None:
    (folders / "personas/good.yaml").chmod(0)
    here = Path.cwd()
    os.chdir(folders / "personas")
    try:
        with nobody(), pytest.raises(InputError, match="not allowed to read it"):
            read_file(Path("good.yaml"), limit=LIMIT)
    finally:
        os.chdir(here)
