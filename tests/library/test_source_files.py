"""Edited files are there whole or not at all, stay as they were where nothing was changed, and are never lost."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from rolebook.core.errors import (
    ConflictError,
    FileError,
    InputError,
    NotFoundError,
)
from rolebook.core.persona import describe_persona
from rolebook.core.source import FileKey, SourceChangedError, etag_of
from rolebook.library.file_library import FileLibrary
from rolebook.library.source_files import SourceFiles
from tests.nasty import NASTY

ADA = FileKey("persona", "ada")
CHAT = FileKey("template", "chat")
TEXT = "name: Ada\nsystem: |\n  You are Ada.\n"
IS_ROOT = os.geteuid() == 0


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    (tmp_path / "personas").mkdir()
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates/chat.jinja").write_text("{% history %}", "utf-8")
    return tmp_path


@pytest.fixture
def library(folders: Path) -> FileLibrary:
    return FileLibrary(folders / "personas", folders / "templates")


@pytest.fixture
def files(library: FileLibrary) -> SourceFiles:
    return SourceFiles(library)


@pytest.fixture
def path(folders: Path) -> Path:
    """A persona file."""
    path = folders / "personas/ada.yaml"
    path.write_text(TEXT, "utf-8")
    return path


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_saved_text_is_live_at_the_next_call(
    files: SourceFiles, library: FileLibrary, path: Path
) -> None:
    source = files.read(ADA)
    assert (TEXT, etag_of(TEXT)) == (source.text, source.etag)
    files.write(ADA, TEXT.replace("You are", "Be"), etag=source.etag)
    assert "Be Ada.\n" == library.get_persona("ada").persona.system
    assert ["ada.yaml"] == names_in(path.parent)


def test_unchanged_text_writes_nothing(files: SourceFiles, path: Path) -> None:
    os.utime(path, (1, 1))
    before = path.stat()
    files.write(ADA, TEXT, etag=files.read(ADA).etag)
    after = path.stat()
    assert (before.st_ino, before.st_ctime_ns) == (after.st_ino, after.st_ctime_ns)


@pytest.mark.parametrize(
    "written",
    [
        b"name: Ada\r\nsystem: x\r\n",
        b"\xef\xbb\xbfname: Ada\r\nsystem: x\r\n",
        b"\xef\xbb\xbfname: Ada\nsystem: x\n",
        b"name: Ada\r\nsystem: x\r\n# mixed\n",
    ],
)
def test_file_keeps_its_line_ends_and_its_byte_order_mark(
    files: SourceFiles, path: Path, written: bytes
) -> None:
    path.write_bytes(written)
    source = files.read(ADA)
    assert "\r" not in source.text
    assert source.text.startswith("name: Ada\n")
    files.write(ADA, source.text + "tags: [a]\n", etag=source.etag)
    assert (
        written.replace(b"# mixed\n", b"# mixed\r\n")
        + (b"tags: [a]\r\n" if b"\r" in written else b"tags: [a]\n")
        == path.read_bytes()
    )


def test_file_keeps_its_mode(files: SourceFiles, path: Path) -> None:
    path.chmod(0o640)
    files.write(ADA, TEXT + "#\n", etag=etag_of(TEXT))
    assert 0o640 == stat.S_IMODE(path.stat().st_mode)


def test_change_on_disk_is_not_overwritten(files: SourceFiles, path: Path) -> None:
    etag = files.read(ADA).etag
    path.write_text("name: Eva\nsystem: x\n", "utf-8")
    with pytest.raises(SourceChangedError) as caught:
        files.write(ADA, "name: Mine\nsystem: x\n", etag=etag)
    assert "name: Eva\nsystem: x\n" == caught.value.current.text == path.read_text("utf-8")


def test_of_many_savers_at_once_one_wins_and_the_others_are_told(
    files: SourceFiles, path: Path
) -> None:
    outcomes: list[str] = []

    def save(number: int) -> None:
        text = f"name: N{number}\nsystem: x\n"
        try:
            files.write(ADA, text, etag=etag_of(TEXT))
            outcomes.append(text)
        except SourceChangedError:
            outcomes.append("")

    threads = [threading.Thread(target=save, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (won,) = [text for text in outcomes if text]
    assert won == path.read_text("utf-8")
    assert ["ada.yaml"] == names_in(path.parent)


SAVER = """
import sys
from pathlib import Path
from rolebook.core.source import FileKey, SourceChangedError
from rolebook.library.file_library import FileLibrary
from rolebook.library.source_files import SourceFiles
folder, name = Path(sys.argv[1]), sys.argv[2]
files = SourceFiles(FileLibrary(folder / "personas", folder / "templates"))
key = FileKey("persona", "ada")
for number in range(60):
    while True:
        source = files.read(key)
        try:
            files.write(key, f"{source.text}# {name}{number}\\n", etag=source.etag)
            break
        except SourceChangedError:
            pass
"""


def test_two_processes_that_save_lose_nothing_of_each_other(folders: Path, path: Path) -> None:
    savers = [subprocess.Popen([sys.executable, "-c", SAVER, str(folders), name]) for name in "ab"]
    assert [0, 0] == [saver.wait(60) for saver in savers]
    lines = path.read_text("utf-8").splitlines()
    assert {f"# {name}{n}" for name in "ab" for n in range(60)} == {
        line for line in lines if line[0] == "#"
    }


@pytest.mark.parametrize("system", NASTY[:-1])
def test_new_persona_reads_back_as_it_was(
    files: SourceFiles, library: FileLibrary, system: str
) -> None:
    if "\x00" in system or "\ud800" in system:
        with pytest.raises(InputError, match="no file can hold"):
            files.new_text(ADA, describe_persona(system))
        return
    files.write(ADA, files.new_text(ADA, describe_persona(system)), etag="")
    assert library.get_described(system).persona.system == library.get_persona("ada").persona.system
    assert [] == list(library.problems())


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "x" * 300_000])
def test_text_that_no_file_can_hold_is_refused(files: SourceFiles, path: Path, text: str) -> None:
    with pytest.raises(InputError, match=r"no file can hold|at most 262144"):
        files.write(ADA, text, etag=etag_of(TEXT))
    assert TEXT == path.read_text("utf-8")


@pytest.mark.parametrize("id", ["../x", "Mine", "", "a/b", "-rf", "con", "x" * 300, "Zoë"])
@pytest.mark.parametrize("kind", ["persona", "template"])
def test_id_that_makes_no_file_name_is_refused(
    files: SourceFiles, folders: Path, kind: str, id: str
) -> None:
    with pytest.raises(InputError, match="keeps the name" if id == "con" else "makes no id"):
        files.write(FileKey(kind, id), TEXT, etag="")  # type: ignore[arg-type]
    assert [] == names_in(folders / "personas")


@pytest.mark.parametrize(
    ("there", "id"), [("Ada.yaml", "ada"), ("ADA.yml", "ada"), ("ada.yml", "ada")]
)
def test_id_that_differs_only_by_case_is_refused_and_both_are_named(
    files: SourceFiles, folders: Path, there: str, id: str
) -> None:
    (folders / "personas" / there).write_text(TEXT, "utf-8")
    with pytest.raises(ConflictError) as caught:
        files.write(FileKey("persona", id), TEXT, etag="")
    assert id in str(caught.value)
    assert there in str(caught.value) or there == "ada.yml"
    assert [there] == names_in(folders / "personas")


@pytest.mark.parametrize("id", ["../secret", "..", ".", "/etc/passwd", "a\0b", "", "ada.yaml"])
def test_no_id_leads_out_of_the_folder(files: SourceFiles, folders: Path, id: str) -> None:
    (folders / "secret.yaml").write_text("name: s\n", "utf-8")
    with pytest.raises(NotFoundError):
        files.read(FileKey("persona", id))
    with pytest.raises(NotFoundError):
        files.delete(FileKey("persona", id))


def test_new_file_never_overwrites(files: SourceFiles, path: Path) -> None:
    with pytest.raises(ConflictError, match="already a persona 'ada'"):
        files.write(ADA, "name: Other\nsystem: s\n", etag="")
    assert TEXT == path.read_text("utf-8")


def test_link_is_followed_within_its_folder_and_stays_a_link(
    files: SourceFiles, path: Path
) -> None:
    link = path.with_name("bob.yaml")
    link.symlink_to("ada.yaml")
    files.write(FileKey("persona", "bob"), TEXT + "# bob\n", etag=etag_of(TEXT))
    assert link.is_symlink()
    assert TEXT + "# bob\n" == path.read_text("utf-8")


def test_link_that_leads_out_of_the_library_is_not_written(
    files: SourceFiles, folders: Path
) -> None:
    target = folders / "elsewhere.yaml"
    target.write_text(TEXT, "utf-8")
    (folders / "personas/ada.yaml").symlink_to(target)
    with pytest.raises(FileError, match="link to something outside"):
        files.write(ADA, "name: x\nsystem: y\n", etag=etag_of(TEXT))
    assert TEXT == target.read_text("utf-8")


def test_library_that_is_itself_a_link_is_written(folders: Path, path: Path) -> None:
    (folders / "linked").symlink_to("personas")
    files = SourceFiles(FileLibrary(folders / "linked", folders / "templates"))
    files.write(ADA, TEXT + "#\n", etag=etag_of(TEXT))
    assert TEXT + "#\n" == path.read_text("utf-8")


FORBIDDEN = """
import os, sys
from pathlib import Path
from rolebook.core.errors import LibraryError
from rolebook.core.source import FileKey
from rolebook.library.file_library import FileLibrary
from rolebook.library.source_files import SourceFiles
folder = Path(sys.argv[1])
files = SourceFiles(FileLibrary(folder / "personas", folder / "templates"))
key = FileKey("persona", "ada")
if os.geteuid() == 0:
    os.setuid(65534)  # To root nothing is read-only.
for act in (
    lambda: files.write(key, "name: x\\nsystem: y\\n", etag=files.read(key).etag),
    lambda: files.write(FileKey("persona", "new"), "x", etag=""),
    lambda: files.delete(key),
):
    try:
        act()
        print("done")
    except LibraryError as error:
        print(error)
"""


@pytest.mark.parametrize("what", ["personas/ada.yaml", "personas"])
def test_what_is_read_only_stays_as_it_is(what: str) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "personas").mkdir()
        path = folder / "personas/ada.yaml"
        path.write_text(TEXT, "utf-8")
        (folder / what).chmod(0o444 if (folder / what).is_file() else 0o555)
        if IS_ROOT and what != "personas":
            os.chown(folder / "personas", 65534, 65534)
        done = subprocess.run(
            [sys.executable, "-c", FORBIDDEN, name], capture_output=True, text=True, check=True
        )
        (folder / "personas").chmod(0o755)
        saved, created, deleted = done.stdout.splitlines()
        assert saved.endswith(
            "is read-only. Nothing was changed. Allow writing there, then save again."
        )
        if what == "personas":
            assert TEXT == path.read_text("utf-8")
            assert ["ada.yaml"] == names_in(path.parent)
            assert "read-only" in created
            assert "read-only" in deleted
        else:
            # Deleting is a matter of the folder.
            assert ["done", "done"] == [created, deleted]


FULL = """
import resource, signal, sys
from pathlib import Path
from rolebook.core.errors import LibraryError
from rolebook.core.source import FileKey
from rolebook.library.file_library import FileLibrary
from rolebook.library.source_files import SourceFiles
folder = Path(sys.argv[1])
files = SourceFiles(FileLibrary(folder / "personas", folder / "templates"))
key = FileKey("persona", "ada")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    files.write(key, "name: x\\nsystem: " + "y" * 5000 + "\\n", etag=files.read(key).etag)
except LibraryError as error:
    print(error)
"""


def test_write_that_ends_halfway_leaves_the_old_file(folders: Path, path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(folders)], capture_output=True, text=True, check=True
    )
    assert "ada.yaml cannot be written: File too large.\n" == done.stdout.rpartition("/")[2]
    assert TEXT == path.read_text("utf-8")
    assert ["ada.yaml"] == names_in(path.parent)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"name: \xff\xfe", "not UTF-8"),
        ("name: 你好".encode("utf-16"), "UTF-16"),
        (b"x" * 300_000, "at most 262144"),
    ],
)
def test_what_is_no_text_cannot_be_opened(
    files: SourceFiles, path: Path, data: bytes, reason: str
) -> None:
    path.write_bytes(data)
    with pytest.raises(FileError, match=reason):
        files.read(ADA)


def test_pipe_in_the_folder_is_not_waited_for(files: SourceFiles, folders: Path) -> None:
    os.mkfifo(folders / "personas/ada.yaml")
    with pytest.raises(FileError, match="a pipe and no file"):
        files.read(ADA)


def test_deleted_file_is_not_loaded_and_comes_back_as_it_was(
    files: SourceFiles, library: FileLibrary, folders: Path, path: Path
) -> None:
    os.utime(path, (7, 7))
    trashed = files.delete(ADA)
    assert [] == list(library.entries())
    assert [] == list(library.problems())
    again = SourceFiles(FileLibrary(folders / "personas", folders / "templates"))
    assert [trashed] == list(again.trash())
    assert trashed.deleted_at.startswith("20")
    assert TEXT == again.read_trashed(trashed.id).text
    assert ADA == again.undelete(trashed.id)
    assert 7 == path.stat().st_mtime
    assert [] == list(again.trash())
    assert "*\n" == (folders / "personas/.trash/.gitignore").read_text("utf-8")


def test_taken_id_is_not_overwritten_by_what_comes_out_of_the_trash(
    files: SourceFiles, path: Path
) -> None:
    trashed = files.delete(ADA)
    path.write_text("name: New\nsystem: x\n", "utf-8")
    with pytest.raises(ConflictError, match="already a persona 'ada'"):
        files.undelete(trashed.id)
    assert "name: New\nsystem: x\n" == path.read_text("utf-8")
    assert FileKey("persona", "ada-2") == files.undelete(trashed.id, "ada-2")
    assert ["ada-2", "ada"] == [key.id for key in (FileKey("persona", "ada-2"), ADA)]
    assert TEXT == path.with_name("ada-2.yaml").read_text("utf-8")


def test_same_id_can_be_deleted_again_and_again(files: SourceFiles, path: Path) -> None:
    deleted = []
    for number in range(3):
        path.write_text(f"name: {number}\nsystem: x\n", "utf-8")
        deleted.append(files.delete(ADA))
    assert set(deleted) == set(files.trash())
    assert "name: 1\nsystem: x\n" == files.read_trashed(deleted[1].id).text


@pytest.mark.parametrize("trash_id", ["", "x", "../ada.yaml", "01kajq3m5w8r2c9x0v"])
def test_what_is_not_in_the_trash_cannot_be_taken_out(files: SourceFiles, trash_id: str) -> None:
    with pytest.raises(NotFoundError, match="in the trash"):
        files.undelete(trash_id)


@pytest.mark.parametrize(
    ("line", "renamed"),
    [
        ("extends: ada", "extends: eva"),
        ("extends: 'ada'  # my base", "extends: 'eva'  # my base"),
        ('extends:    "ada"', 'extends:    "eva"'),
        ("extends:\n  ada", "extends:\n  eva"),
        ("{extends: ada, name: x}", None),
        ("extends: &a ada", None),
    ],
)
def test_reference_is_renamed_in_its_place(
    files: SourceFiles, path: Path, line: str, renamed: str | None
) -> None:
    child = path.with_name("child.yaml")
    text = f"# ada stays here\nname: ada\n{line}\nsystem: |\n  extends: ada\n"
    child.write_text(text, "utf-8")
    key = FileKey("persona", "child")
    if renamed is None:
        with pytest.raises((InputError, FileError)):
            files.renamed_reference(key, ADA, "eva")
    else:
        assert text.replace(line, renamed, 1) == files.renamed_reference(key, ADA, "eva")
