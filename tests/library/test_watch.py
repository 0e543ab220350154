"""Who follows a library misses nothing, whether the system tells of changes or not, and however they are made."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from rolebook.core.errors import FileError, NotFoundError
from rolebook.library import file_library
from rolebook.library.file_library import FileLibrary
from rolebook.library.watch import file_system_of, open_watch

#: More than are looked at with every call.
MANY = 120


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates/chat.jinja").write_text("{% history %}", "utf-8")
    fill(tmp_path / "personas")
    return tmp_path / "personas"


@pytest.fixture
def library(folder: Path) -> Iterator[FileLibrary]:
    """A library that somebody follows to whom the system tells changes."""
    with followed(FileLibrary(folder, folder.parent / "templates")) as library:
        wait_until_told(library)
        yield library


@pytest.fixture(autouse=True)
def _without_precautions(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not told is not found by chance either."""
    monkeypatch.setattr(file_library, "_BELIEVED_S", 3600.0)


@contextmanager
def followed(library: FileLibrary) -> Iterator[FileLibrary]:
    wake, is_stopping = threading.Event(), threading.Event()

    def follow() -> None:
        with closing(library.follow(wake)) as looks:
            for _ in looks:
                if is_stopping.is_set():
                    return
                library.entries()

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield library
    finally:
        is_stopping.set()
        wake.set()
        thread.join()
    assert not library.is_told


def fill(folder: Path, system: str = "old") -> None:
    folder.mkdir()
    for number in range(MANY):
        write(folder / f"p{number}.yaml", system)


def write(path: Path, system: str) -> None:
    path.write_text(f"name: P\nsystem: {system}\n", "utf-8")


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wait_until_told(library: FileLibrary) -> None:
    if file_system_of(library.personas_dir) == "":
        pytest.skip("it cannot be told what this system tells")
    wait_until(lambda: library.is_told)


def fail() -> None:
    raise AssertionError("nothing is watched")


def system_of(library: FileLibrary, persona_id: str = "p7") -> str:
    try:
        return library.get_persona(persona_id).persona.system
    except (NotFoundError, FileError):
        # Not there, or not yet whole.
        return ""


def write_in_place(path: Path) -> None:
    write(path, "new")


def write_in_two_pieces(path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write("name: P\nsystem: hal")
        file.flush()
        time.sleep(0.05)
        file.seek(0)
        file.write("name: P\nsystem: new\n")
        file.truncate()


def replace(path: Path) -> None:
    other = path.with_name(".p7.yaml.swp")
    write(other, "new")
    other.replace(path)


def delete_and_make(path: Path) -> None:
    path.unlink()
    write(path, "new")


def move_in(path: Path) -> None:
    other = path.parent.parent / "elsewhere.yaml"
    write(other, "new")
    other.replace(path)


def keep_size_and_time(path: Path) -> None:
    status = path.stat()
    write(path, "new")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [write_in_place, write_in_two_pieces, replace, delete_and_make, move_in, keep_size_and_time],
)
def test_a_change_that_the_system_tells_is_seen(
    library: FileLibrary, folder: Path, change: Callable[[Path], None]
) -> None:
    change(folder / "p7.yaml")
    wait_until(lambda: "new" == system_of(library))


def test_a_change_among_few_files_is_seen_by_the_very_next_call(folder: Path) -> None:
    for number in range(MANY):
        if number != 7:
            (folder / f"p{number}.yaml").unlink()
    with followed(FileLibrary(folder, folder.parent / "templates")) as library:
        for number in range(10):
            wait_until_told(library)
            write(folder / "p7.yaml", f"new {number}")
            assert f"new {number}" == system_of(library)


def test_files_that_come_and_go_are_seen(library: FileLibrary, folder: Path) -> None:
    write(folder / "later.yaml", "new")
    wait_until(lambda: "new" == system_of(library, "later"))
    (folder / "later.yaml").rename(folder / "renamed.yaml")
    wait_until(lambda: ("", "new") == (system_of(library, "later"), system_of(library, "renamed")))
    (folder / "renamed.yaml").unlink()
    wait_until(lambda: "" == system_of(library, "renamed"))


def test_a_change_of_a_template_is_seen(library: FileLibrary, folder: Path) -> None:
    (folder.parent / "templates/chat.jinja").write_text("{% history %}{# new #}", "utf-8")
    wait_until(lambda: "new" in library.templates()["chat"])


def test_what_git_checks_out_is_seen_whole(library: FileLibrary, folder: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=A", "-c", "user.email=a@example.org")
        subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)

    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "old")
    for path in folder.glob("*.yaml"):
        write(path, "new")
    git("commit", "-qam", "new")
    wait_until(lambda: {"new"} == {r.persona.system for r in library.personas()})
    wait_until_told(library)
    git("checkout", "-q", "HEAD~1")
    wait_until(lambda: {"old"} == {r.persona.system for r in library.personas()})


def test_a_folder_that_takes_the_place_of_another_is_seen(
    library: FileLibrary, folder: Path
) -> None:
    fill(folder.parent / "next", "new")
    folder.rename(folder.parent / "last")
    (folder.parent / "next").rename(folder)
    wait_until(lambda: "new" == system_of(library))
    write(folder / "p7.yaml", "newer")
    wait_until(lambda: "newer" == system_of(library))


def test_a_folder_that_is_swapped_by_a_link_is_seen(folder: Path) -> None:
    folder.rename(folder.parent / "release-1")
    fill(folder.parent / "release-2", "new")
    folder.symlink_to("release-1")
    with followed(FileLibrary(folder, folder.parent / "templates")) as library:
        wait_until_told(library)
        (folder.parent / "link").symlink_to("release-2")
        (folder.parent / "link").replace(folder)
        wait_until(lambda: "new" == system_of(library))


def test_a_folder_that_goes_and_comes_again_is_seen(library: FileLibrary, folder: Path) -> None:
    folder.rename(folder.parent / "away")
    wait_until(lambda: not library.is_readable or not library.personas())
    fill(folder, "new")
    wait_until(lambda: "new" == system_of(library))


def test_links_as_volumes_of_kubernetes_have_them_are_seen_and_not_waited_for(folder: Path) -> None:
    for version in ("new", "newer"):
        (folder / f"..{version}").mkdir()
        write(folder / f"..{version}/p7.yaml", version)
    (folder / "..data").symlink_to("..new")
    (folder / "p7.yaml").unlink()
    (folder / "p7.yaml").symlink_to("..data/p7.yaml")
    with followed(FileLibrary(folder, folder.parent / "templates")) as library:
        wait_until(lambda: "new" == system_of(library))
        (folder / "..data_tmp").symlink_to("..newer")
        (folder / "..data_tmp").replace(folder / "..data")
        wait_until(lambda: "newer" == system_of(library))
        write(folder / "..newer/p7.yaml", "newest")
        wait_until(lambda: "newest" == system_of(library))
        assert not library.is_told


def test_a_file_with_another_name_elsewhere_is_seen(folder: Path) -> None:
    other = folder.parent / "other-name"
    (folder / "p7.yaml").rename(other)
    os.link(other, folder / "p7.yaml")
    with followed(FileLibrary(folder, folder.parent / "templates")) as library:
        wait_until(lambda: "old" == system_of(library))
        write(other, "new")
        wait_until(lambda: "new" == system_of(library))
        assert not library.is_told


def test_a_name_that_nobody_can_tell_keeps_no_change_from_being_seen(
    library: FileLibrary, folder: Path
) -> None:
    (folder / os.fsdecode(b"caf\xe9.yaml")).write_text("name: P\nsystem: x\n", "utf-8")
    wait_until(lambda: any(r"caf\xe9" in problem.file for problem in library.problems()))
    for system in ("new", "newer"):
        write(folder / "p7.yaml", system)
        wait_until(lambda system=system: system == system_of(library))  # type: ignore[misc]


def test_folders_that_are_not_there_are_not_watched(folder: Path) -> None:
    assert "" == file_system_of(folder.parent / "missing")
    assert open_watch([folder, folder.parent / "missing"], (".yaml",), fail) is None


@pytest.mark.skipif(not Path("/proc/self/mountinfo").exists(), reason="needs Linux")
def test_file_systems_of_which_the_system_tells_too_little_are_not_watched() -> None:
    assert "proc" == file_system_of(Path("/proc/self"))
    assert open_watch([Path("/proc/self")], (".yaml",), fail) is None


def test_who_looks_while_it_is_closed_relies_on_nothing(folder: Path) -> None:
    watch = open_watch([folder], (".yaml",), lambda: None)
    assert watch is not None
    assert not watch.has_news
    watch.close()
    assert watch.has_news
