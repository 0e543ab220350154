"""The files of the library as texts to edit: read, saved if nobody else has, put into a trash and taken out again."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from rolebook.core.errors import (
    ConflictError,
    FileError,
    InputError,
    LibraryError,
    NotFoundError,
    Problem,
)
from rolebook.core.history import Commit
from rolebook.core.naming import is_persona_id, require_persona_id
from rolebook.core.session import new_id
from rolebook.core.source import (
    FileKey,
    FileKind,
    Source,
    SourceChangedError,
    Trashed,
    plain_text,
)
from rolebook.library import file_store
from rolebook.library.file_library import FileLibrary, renamed_references
from rolebook.library.file_store import locked
from rolebook.library.folder import read_file, shown
from rolebook.library.git_log import list_commits, text_at
from rolebook.library.persona_file import TYPED_KEYS, schema_line
from rolebook.library.yaml_text import MAX_BYTES, YamlError, decode, dump_yaml, parse_yaml

#: The endings that files of each kind may have; new ones get the first.
_ENDINGS: Mapping[FileKind, tuple[str, ...]] = {
    "persona": (".yaml", ".yml"),
    "template": (".jinja",),
}
#: Where deleted files wait, in the folder that they come from: the library looks into no folder of a folder.
TRASH = ".trash"
_BOM = b"\xef\xbb\xbf"


class SourceFiles:
    """Reads and writes the files of a library, which sees every change at its next call. Safe for threads.

    Two processes that save at the same time do so one after the other, and the second is told.
    """

    def __init__(self, library: FileLibrary) -> None:
        self._library = library

    def all_keys(self) -> Sequence[FileKey]:
        """All files that can be opened: personas by id, then prompt templates by name."""
        found = [
            FileKey(kind, path.stem)
            for kind, endings in _ENDINGS.items()
            for path in _files_in(self._folder(kind))
            if path.suffix in endings and (kind != "persona" or is_persona_id(path.stem))
        ]
        return sorted(set(found))

    def read(self, key: FileKey) -> Source:
        """The text of a file. Raises NotFoundError, FileError, LibraryError."""
        path = self._existing(key)
        return Source(key, shown(path), _text_of(_bytes_of(path), path))

    def commits(self, key: FileKey) -> Sequence[Commit]:
        """The commits that changed a file, the newest first; none where there is no git, or no repository."""
        path = self._found(key)
        return list_commits(path) if path else ()

    def text_at(self, key: FileKey, commit: Commit) -> str:
        """The text of a file as of a commit. Raises NotFoundError, FileError."""
        path = self._existing(key)
        return _text_of(text_at(path, commit), path)

    def shown_path(self, key: FileKey) -> str:
        """The path of a file as messages name it; of one that is not there, as it would be."""
        return shown(self._found(key) or self._new_path(key))

    def path(self, key: FileKey) -> Path:
        """Raises NotFoundError."""
        return self._existing(key)

    def new_text(self, key: FileKey, data: Mapping[str, object]) -> str:
        """The text of a new persona file with these contents. Raises InputError."""
        try:
            return self._schema_line() + dump_yaml(data)
        except ValueError:
            raise InputError(
                "The text holds a character that no file can hold (NUL, or half of a pair)."
                " Please remove it."
            ) from None

    def _schema_line(self) -> str:
        return schema_line("../docs/persona.schema.json")

    def write(self, key: FileKey, text: str, *, etag: str) -> Source:
        """Save a text. One that the file has already is not written, so that the file keeps its time.

        Arguments:
            etag: of the text that it shall replace; empty: the file must not be there yet.

        Raises InputError for an id that makes no file name or a text that no file can hold, ConflictError if the file
        is there already, SourceChangedError if it has another text now, NotFoundError if it is gone, LibraryError if it
        cannot be written. Then nothing has changed.
        """
        _require_writable(text)
        if not etag:
            return self._create(key, text)
        path = self._existing(key)
        with locked(path.parent):
            data = _bytes_of(path)
            current = Source(key, shown(path), _text_of(data, path))
            if current.text == text:
                return current
            if current.etag != etag:
                raise SourceChangedError(current)
            file_store.replace(self._real(path), _encoded(text, data))
        self._library.forget()
        return Source(key, shown(path), text)

    def _create(self, key: FileKey, text: str) -> Source:
        self.require_free(key)
        path = self._new_path(key)
        try:
            file_store.write_new(path, text.encode())
        except FileExistsError:
            raise _taken(key, path) from None
        self._library.forget()
        return Source(key, shown(path), text)

    def require_free(self, key: FileKey) -> None:
        """Raises InputError for an id that makes no file name, ConflictError if a file has it, or nearly has it."""
        require_persona_id(key.id)
        for path in _files_in(self._folder(key.kind)):
            if path.suffix in _ENDINGS[key.kind] and _alike(path.stem) == _alike(key.id):
                raise _taken(key, path)

    def renamed_reference(self, user: FileKey, key: FileKey, new_id: str) -> str:
        """The text of a file that names another one, with that one's new id.

        Raises InputError where that cannot be told from its text.
        """
        source = self.read(user)
        if user.kind == "template":
            return renamed_references(source.text, key.id, new_id)
        name = "extends" if key.kind == "persona" else "template"
        text = _with_other_value(source.text, name, key.id, new_id)
        if text is not None:
            return text
        document = parse_yaml(source.text, file=source.file, typed=TYPED_KEYS)
        if name not in document.data and name == "template" and self._inherits(user, key):
            return source.text
        raise InputError(
            "%(file)s names '%(id)s' in a way that cannot be changed for you. Change it by hand first.",
            file=source.file,
            id=key.id,
        )

    def _inherits(self, user: FileKey, template: FileKey) -> bool:
        """Whether a persona has its template from a base, which is changed itself."""
        bases = self._library.get_entry(user.id).bases
        return FileKey("persona", bases[0]) in self._library.users_of(template) if bases else False

    def copy(self, key: FileKey, new_id: str) -> None:
        """Let a file have a second name. Raises NotFoundError, InputError, ConflictError, LibraryError."""
        path = self._existing(key)
        new_key = FileKey(key.kind, new_id)
        self.require_free(new_key)
        target = path.with_name(f"{new_id}{path.suffix}")
        try:
            file_store.write_new(target, _bytes_of(path), mode_of=path)
        except FileExistsError:
            raise _taken(new_key, target) from None
        self._library.forget()

    def remove(self, key: FileKey) -> None:
        """Take a name away from a file for good. Raises NotFoundError, LibraryError."""
        path = self._existing(key)
        try:
            path.unlink()
            file_store.sync_folder(path.parent)
        except OSError as error:
            raise file_store.unwritable(path, error) from None
        self._library.forget()

    def delete(self, key: FileKey) -> Trashed:
        """Move a file to the trash. Raises NotFoundError, LibraryError."""
        path = self._existing(key)
        trashed = Trashed(new_id(), key)
        with locked(path.parent):
            trash = _made_trash(path.parent)
            file_store.move(path, trash / f"{trashed.id}-{path.name}")
        self._library.forget()
        return trashed

    def trash(self) -> Sequence[Trashed]:
        """What is in the trash, the newest first."""
        found = [trashed for kind in _ENDINGS for trashed, _ in self._trashed(kind)]
        return sorted(found, key=lambda trashed: trashed.id, reverse=True)

    def read_trashed(self, trash_id: str) -> Source:
        """The text of a file in the trash. Raises NotFoundError, FileError, LibraryError."""
        trashed, path = self._in_trash(trash_id)
        return Source(trashed.key, shown(path), _text_of(_bytes_of(path), path))

    def undelete(self, trash_id: str, as_id: str = "") -> FileKey:
        """Take a file out of the trash, under its own id or another one.

        Raises NotFoundError, ConflictError if the id is taken, InputError for one that makes no file name,
        LibraryError.
        """
        trashed, path = self._in_trash(trash_id)
        key = FileKey(trashed.key.kind, as_id or trashed.key.id)
        # Its own name was good enough before, whatever it is; another one has to be an id.
        if as_id or is_persona_id(key.id):
            self.require_free(key)
        target = self._folder(key.kind) / f"{key.id}{path.suffix}"
        with locked(target.parent):
            try:
                file_store.move(path, target)
            except FileExistsError:
                raise _taken(key, target) from None
        self._library.forget()
        return key

    def _trashed(self, kind: FileKind) -> Iterator[tuple[Trashed, Path]]:
        for path in _files_in(self._folder(kind) / TRASH):
            trash_id, dash, name = path.name.partition("-")
            if dash and len(trash_id) == len(new_id()) and path.suffix in _ENDINGS[kind]:
                yield Trashed(trash_id, FileKey(kind, Path(name).stem)), path

    def _in_trash(self, trash_id: str) -> tuple[Trashed, Path]:
        for kind in _ENDINGS:
            for trashed, path in self._trashed(kind):
                if trashed.id == trash_id:
                    return trashed, path
        raise NotFoundError("There is no %(id)s in the trash.", id=trash_id[:80])

    def _folder(self, kind: FileKind) -> Path:
        return self._library.personas_dir if kind == "persona" else self._library.templates_dir

    def _new_path(self, key: FileKey) -> Path:
        return self._folder(key.kind) / f"{key.id}{_ENDINGS[key.kind][0]}"

    def _found(self, key: FileKey) -> Path | None:
        names = {f"{key.id}{ending}" for ending in _ENDINGS[key.kind]}
        # Looked up in the folder and never built from the id, which may come from anywhere.
        paths = (path for path in _files_in(self._folder(key.kind)) if path.name in names)
        return min(paths, default=None)

    def _existing(self, key: FileKey) -> Path:
        path = self._found(key)
        if path is None:
            raise NotFoundError(
                "There is no persona '%(id)s'."
                if key.kind == "persona"
                else "There is no prompt template '%(id)s'.",
                id=key.id[:80],
            )
        return path

    def _real(self, path: Path) -> Path:
        """Where a file really lies: behind a link, but only within its folder. Raises LibraryError."""
        real = Path(os.path.realpath(path))
        if not real.is_relative_to(os.path.realpath(path.parent)):
            raise LibraryError(
                "%(path)s is a link to %(target)s, outside of the library. Edit it there.",
                path=shown(path),
                target=str(real),
            )
        return real


def _files_in(folder: Path) -> Iterator[Path]:
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        yield from sorted(folder / entry.name for entry in entries if entry.name[0] != ".")


def _bytes_of(path: Path) -> bytes:
    try:
        return read_file(path, limit=MAX_BYTES)
    except FileError:
        raise
    except InputError as error:
        raise FileError([Problem(shown(path), 1, 1, error.message, error.parameters)]) from None


def _text_of(data: bytes, path: Path) -> str:
    try:
        return plain_text(decode(data, file=shown(path)))
    except YamlError as error:
        raise FileError(error.problems) from None


def _encoded(text: str, former: bytes) -> bytes:
    """A text as its file has it: with a byte order mark and the ends of lines as before, where most agree."""
    is_crlf = former.count(b"\r\n") * 2 > former.count(b"\n")
    data = (text.replace("\n", "\r\n") if is_crlf else text).encode()
    return _BOM + data if former.startswith(_BOM) else data


def _require_writable(text: str) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        size = -1
    if size < 0 or "\0" in text:
        raise InputError(
            "The text holds a character that no file can hold (NUL, or half of a pair)."
            " Please remove it."
        )
    if size > MAX_BYTES:
        raise InputError(
            "The text has %(size)d bytes; at most %(limit)d can be saved: shorten or split it.",
            size=size,
            limit=MAX_BYTES,
        )


def _with_other_value(text: str, key: str, old: str, new: str) -> str | None:
    """The text of a persona file in which a key has another plain value; None if it does not have the old one."""
    document = parse_yaml(text, file="", typed=TYPED_KEYS)
    mark = document.marks.get((key,))
    if document.data.get(key) != old or mark is None:
        return None
    lines = text.split("\n")
    line, start = lines[mark.line - 1], mark.column - 1
    start += line[start : start + 1] in ("'", '"')
    if not line.startswith(old, start):
        return None
    lines[mark.line - 1] = line[:start] + new + line[start + len(old) :]
    changed = "\n".join(lines)
    # The proof that nothing else was touched.
    expected = {**document.data, key: new}
    return changed if parse_yaml(changed, file="", typed=TYPED_KEYS).data == expected else None


def _alike(name: str) -> str:
    """The same for names that some file systems take for one: in other case, or otherwise composed."""
    return unicodedata.normalize("NFC", name).casefold()


def _taken(key: FileKey, path: Path) -> ConflictError:
    if path.stem != key.id:
        return ConflictError(
            "'%(id)s' differs from %(file)s only in the case or form of letters, and some systems take them for the"
            " same. Choose another id.",
            id=key.id,
            file=shown(path),
        )
    if key.kind == "persona":
        return ConflictError("There is already a persona '%(id)s'.", id=key.id)
    return ConflictError("There is already a prompt template '%(id)s'.", id=key.id)


def _made_trash(folder: Path) -> Path:
    """The trash of a folder, which git leaves alone."""
    trash = folder / TRASH
    try:
        trash.mkdir(exist_ok=True)
        ignore = trash / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n", "utf-8")
    except OSError as error:
        raise file_store.unwritable(trash, error) from None
    return trash
