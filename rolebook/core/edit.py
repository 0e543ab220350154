"""Editing the files of the library: drafts that are checked before they are saved, and saving that loses nothing.

One edit: text and etag → unchanged since it was opened? else both versions and a merge → checked with everything else
of the library → written whole or not at all.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal, Protocol

from rolebook.core import checking, versions
from rolebook.core.blocking import held
from rolebook.core.checking import Checked, DraftChecker, Trials
from rolebook.core.errors import (
    ConflictError,
    NotFoundError,
    Problem,
    RolebookError,
    StorageError,
)
from rolebook.core.frozen import frozen
from rolebook.core.history import Action, Commit, History, NewChange
from rolebook.core.merge import Merge, merge
from rolebook.core.persona import ResolvedPersona
from rolebook.core.recording import Recorder
from rolebook.core.session import Session
from rolebook.core.source import (
    Author,
    DraftError,
    FileKey,
    InUseError,
    Source,
    SourceChangedError,
    Trashed,
    etag_of,
    plain_text,
)
from rolebook.core.versions import Describe, Versions, signed

#: So many texts are remembered as they were opened, in case the file changes meanwhile.
_MOST_OPENED = 256

_LONGEST_MESSAGE = 500

FileStatus = Literal["clean", "warning", "broken", "stale"]


class Library(checking.Library, versions.Library, Protocol):
    """The library that is edited."""

    def problems(self) -> Sequence[Problem]:
        """Everything that is wrong or doubtful, by file and line."""

    def users_of(self, key: FileKey) -> Sequence[FileKey]:
        """The files that name this one: personas that extend it or render with it, templates that include it."""


class Files(Protocol):
    """Reads and writes the library's files. Every method may raise LibraryError."""

    def all_keys(self) -> Sequence[FileKey]:
        """All files that can be opened."""

    def read(self, key: FileKey) -> Source:
        """Raises NotFoundError, FileError."""

    def commits(self, key: FileKey) -> Sequence[Commit]:
        """The commits that changed a file, the newest first; none where that cannot be told."""

    def text_at(self, key: FileKey, commit: Commit) -> str:
        """The text of a file as of a commit. Raises NotFoundError, FileError."""

    def shown_path(self, key: FileKey) -> str:
        """The path of a file as messages name it."""

    def new_text(self, key: FileKey, data: Mapping[str, object]) -> str:
        """The text of a new persona file with these contents. Raises InputError."""

    def write(self, key: FileKey, text: str, *, etag: str) -> Source:
        """Save a text; with an empty etag as a new file.

        Raises InputError, ConflictError if the file is there already, SourceChangedError, NotFoundError.
        """

    def renamed_reference(self, user: FileKey, key: FileKey, new_id: str) -> str:
        """The text of a file that names another one, with that one's new id. Raises InputError."""

    def require_free(self, key: FileKey) -> None:
        """Raises InputError for an id that makes no file name, ConflictError if a file has it, or nearly has it."""

    def copy(self, key: FileKey, new_id: str) -> None:
        """Let a file have a second name. Raises NotFoundError, InputError, ConflictError."""

    def remove(self, key: FileKey) -> None:
        """Take a name away from a file for good."""

    def delete(self, key: FileKey) -> Trashed:
        """Move a file to the trash. Raises NotFoundError."""

    def trash(self) -> Sequence[Trashed]:
        """What is in the trash, the newest first."""

    def undelete(self, trash_id: str, as_id: str = "") -> FileKey:
        """Take a file out of the trash. Raises NotFoundError, ConflictError, InputError."""


class Sessions(Protocol):
    """Begins sessions."""

    def start_session(
        self,
        session: Session,
        *,
        system: str = "",
        resolved: ResolvedPersona | None = None,
        is_trial: bool = False,
    ) -> Session:
        """As ChatService.start_session."""


@frozen
class FileState:
    """A file in the list of all. ``name`` is what people call it.

    ``status`` is ``stale`` where the file is broken and its last good version is still in use.
    """

    key: FileKey
    file: str
    name: str
    text: str
    status: FileStatus
    problems: tuple[Problem, ...]

    @property
    def etag(self) -> str:
        """Differs from that of an opened source when the file has changed since."""
        return etag_of(self.text)


@frozen
class Saved:
    """A file after saving. ``is_changed`` is false where it had that text already, so that nothing was written."""

    source: Source
    is_changed: bool
    checked: Checked

    @property
    def key(self) -> FileKey:
        return self.source.key


class EditConflict(ConflictError):
    """A file was changed by somebody else since it was opened. Nothing was written, and nothing is lost.

    ``mine`` is the text that should have been saved, ``theirs`` the file as it is now, ``base`` the text that both come
    from (None where it is not known any more), ``merged`` both put together. To save it, give the etag of ``theirs``.
    """

    code = "changed_meanwhile"

    def __init__(self, mine: str, theirs: Source, base: str | None) -> None:
        super().__init__(_CHANGED, file=theirs.file)
        self.mine = mine
        self.theirs = theirs
        self.base = base
        self.merged: Merge = merge(base or "", mine, theirs.text)


class EditService(Versions):
    """Opens, checks and saves the files of a library, and knows what they were. Safe for threads.

    Every method that reads or writes files may raise LibraryError.
    """

    def __init__(
        self,
        *,
        library: Library,
        files: Files,
        trials: Trials,
        history: History,
        recorder: Recorder,
        sessions: Sessions,
        describe: Describe,
    ) -> None:
        super().__init__(
            library=library, sources=files, history=history, recorder=recorder, describe=describe
        )
        self._library = library
        self._files = files
        self._sessions = sessions
        self._checker = DraftChecker(library, files, trials)
        self._lock = threading.RLock()
        self._opened: OrderedDict[str, str] = OrderedDict()

    def files(self) -> Sequence[FileState]:
        """All files that can be opened: personas by id, then prompt templates by name."""
        return [*self._persona_states(), *self._template_states()]

    def stray_problems(self) -> Sequence[Problem]:
        """What is wrong with files that cannot be opened, such as one whose name makes no id."""
        known = {state.file for state in self.files()}
        return [problem for problem in self._library.problems() if problem.file not in known]

    def _persona_states(self) -> Iterator[FileState]:
        for entry in self._library.entries():
            status: FileStatus = "warning" if entry.problems else "clean"
            if entry.errors or entry.resolved is None:
                status = "stale" if entry.is_stale else "broken"
            name = entry.resolved.persona.name if entry.resolved else entry.id
            key = FileKey("persona", entry.id)
            yield FileState(key, entry.file, name, entry.source, status, entry.problems)

    def _template_states(self) -> Iterator[FileState]:
        templates, problems = self._library.templates(), self._library.problems()
        for key in self._files.all_keys():
            if key.kind == "template":
                file = self._files.shown_path(key)
                own = tuple(problem for problem in problems if problem.file == file)
                is_known = key.id in templates
                status: FileStatus = "clean" if not own else "stale" if is_known else "broken"
                yield FileState(key, file, key.id, templates.get(key.id, ""), status, own)

    def open(self, key: FileKey) -> Source:
        """The text of a file, to be edited. Raises NotFoundError, and FileError for what is no text."""
        self._recorder.record()
        return self._remembered(self._files.read(key))

    def require_free(self, key: FileKey) -> None:
        """Raises InputError for an id that makes no file name, ConflictError if a file has it, or nearly has it."""
        self._files.require_free(key)

    def new_text(self, key: FileKey, name: str = "", *, system: str = "You are …") -> str:
        """What a new file begins with; ``system`` in the language of whoever writes it."""
        if key.kind == "template":
            return _NEW_TEMPLATE
        return self._files.new_text(key, {"name": name or key.id, "system": f"{system}\n"})

    def check(self, key: FileKey, text: str) -> Checked:
        """All that can be said of a text that is not saved. Never raises for what is wrong with it."""
        return self._checker.check(key, text)

    def resolve(self, key: FileKey, text: str, *, persona_id: str = "") -> ResolvedPersona:
        """The persona that a draft makes, with everything else from the library. Nothing is rendered yet.

        Arguments:
            persona_id: for a prompt template, the persona that shall render with it; by default a plain one.

        Raises FileError with all problems, NotFoundError for an unknown persona.
        """
        return self._checker.resolve(key, text, persona_id=persona_id)

    def save(
        self,
        key: FileKey,
        text: str,
        *,
        etag: str,
        author: Author,
        message: str = "",
        insist: bool = False,
        action: Action = "saved",
    ) -> Saved:
        """Save a text, unless somebody else has saved another one since it was opened.

        Arguments:
            etag: of the source that was opened; empty for a new file.
            author: who saves it.
            message: why, for the history.
            insist: save it although it has errors; its last good version stays in use.
            action: what the history calls it.

        Raises EditConflict, DraftError with its problems, InputError for an id or a text that makes no file,
        ConflictError for an id that is taken, NotFoundError if it was deleted meanwhile.
        """
        text = plain_text(text)
        with held(self._lock):
            # What was done meanwhile is to be known before what is wrong with the text.
            is_changed = self._is_news(key, text, etag)
            checked = self.check(key, text)
            if checked.errors and is_changed and not insist:
                raise DraftError(checked.problems)
            try:
                source = self._files.write(key, text, etag=etag)
            except SourceChangedError as error:
                raise self._conflict(text, error.current, etag) from None
            if is_changed:
                done: Action = "created" if not etag and action == "saved" else action
                self._note(source, done, author, message=message)
            return Saved(self._remembered(source), is_changed, checked)

    def _note(
        self,
        source: Source,
        action: Action,
        author: Author,
        *,
        former: str = "",
        message: str = "",
    ) -> None:
        """Have it recorded that a file has a text now, with what that changes for those that use it."""
        change = self._change(source, action, author)
        said = " ".join(message.split())[:_LONGEST_MESSAGE]
        self._recorder.record(replace(change, former=former, message=said))

    def _change(self, source: Source, action: Action, author: Author) -> NewChange:
        revision = None
        for entry in self._library.entries() if source.key.kind == "persona" else ():
            if entry.id == source.key.id and entry.source == source.text and not entry.is_stale:
                revision = entry.resolved.revision if entry.resolved else None
        return NewChange(source.key, action, signed(author), source.text, revision)

    def _is_news(self, key: FileKey, text: str, etag: str) -> bool:
        """Whether there is something to write. Raises what is in the way of it, EditConflict among others."""
        if not etag:
            self._files.require_free(key)
            return True
        try:
            current = self._files.read(key)
        except NotFoundError:
            raise NotFoundError(
                "%(file)s was deleted meanwhile. Save your text as a new file to keep it.",
                file=self._files.shown_path(key),
            ) from None
        if current.text == text:
            return False
        if current.etag != etag:
            raise self._conflict(text, current, etag)
        return True

    def _conflict(self, text: str, current: Source, etag: str) -> EditConflict:
        return EditConflict(text, self._remembered(current), self._text_of(etag))

    def create(self, key: FileKey, data: Mapping[str, Any], *, author: Author) -> Saved:
        """Save a new persona with these contents. Raises InputError, ConflictError."""
        text = self._files.new_text(key, data)
        return self.save(key, text, etag="", author=author, insist=True, action="created")

    def duplicate(self, key: FileKey, new_id: str, *, author: Author, at: str = "") -> Saved:
        """Save the text of a file under another id too.

        Arguments:
            at: a label or the beginning of a revision: take the text that the file had then.

        Raises NotFoundError, FileError, InputError, ConflictError, StorageError.
        """
        former = self.source_at(key, self.find_change(key, at).id) if at else ""
        with held(self._lock):
            text = former if at else self._files.read(key).text
            copied = replace(key, id=new_id)
            self._files.require_free(copied)
            checked = self.check(copied, text)
            source = self._remembered(self._files.write(copied, text, etag=""))
            self._note(source, "created", author, former=key.id)
            return Saved(source, True, checked)

    def rename(self, key: FileKey, new_id: str, *, author: Author, carry: bool = False) -> Saved:
        """Give a file another id. Sessions and the log keep the old one.

        Arguments:
            carry: change the files that name it along with it.

        Raises NotFoundError, InputError, ConflictError, and InUseError where others name it and are not carried along.
        """
        new_key = replace(key, id=new_id)
        with held(self._lock):
            self._files.read(key)
            self._files.require_free(new_key)
            users = self._library.users_of(key)
            if users and not carry:
                raise InUseError(_EXTENDED, key=key, users=users)
            texts = {user: self._files.renamed_reference(user, key, new_id) for user in users}
            self._files.copy(key, new_id)
            try:
                self._carry(texts, author)
            except RolebookError:
                self._files.remove(new_key)
                raise
            self._files.remove(key)
            renamed = self._remembered(self._files.read(new_key))
            self._note_renaming(key, renamed, texts, author)
            return Saved(renamed, True, self.check(new_key, renamed.text))

    def _note_renaming(
        self, key: FileKey, renamed: Source, users: Iterable[FileKey], author: Author
    ) -> None:
        self._recorder.record(
            replace(self._change(renamed, "renamed", author), former=key.id),
            NewChange(key, "deleted", signed(author), None, causes=(renamed.key,)),
            *(self._change(self._files.read(user), "saved", author) for user in users),
        )

    def _carry(self, texts: Mapping[FileKey, str], author: Author) -> None:
        """Save all of these texts or, as far as that can be had, none of them."""
        former: list[tuple[Source, Source]] = []
        try:
            for user, text in texts.items():
                before = self._files.read(user)
                former.append((before, self._files.write(user, text, etag=before.etag)))
        except RolebookError:
            for before, after in former:
                self._files.write(before.key, before.text, etag=after.etag)
            raise

    def delete(self, key: FileKey, *, author: Author, insist: bool = False) -> Trashed:
        """Move a file to the trash.

        Arguments:
            insist: although others name it, which will then be broken.

        Raises NotFoundError, InUseError.
        """
        with held(self._lock):
            users = self._library.users_of(key)
            if users and not insist:
                raise InUseError(_NEEDED, key=key, users=users)
            trashed = self._files.delete(key)
            self._recorder.record(NewChange(key, "deleted", signed(author), None))
            return trashed

    def trash(self) -> Sequence[Trashed]:
        """What was deleted, the newest first."""
        return self._files.trash()

    def undelete(self, trash_id: str, *, author: Author, as_id: str = "") -> Saved:
        """Take a file out of the trash. Nothing is overwritten: where its id is taken, it needs another one.

        Raises NotFoundError, ConflictError, InputError.
        """
        with held(self._lock):
            key = self._files.undelete(trash_id, as_id)
            source = self._remembered(self._files.read(key))
            self._note(source, "restored", author)
            return Saved(source, True, self.check(key, source.text))

    def start_draft(self, resolved: ResolvedPersona, session: Session) -> Session:
        """Begin a session with a draft, which stays with it. The log keeps the draft as a revision that was tried.

        Arguments:
            resolved: what :meth:`resolve` made of the draft.
            session: with a new id and what was chosen; its persona is filled in.

        Raises VariableError, NotFoundError for an unknown upstream, StorageError.
        """
        draft = replace(resolved, is_draft=True)
        begun = replace(session, persona_id=draft.persona.id)
        return self._sessions.start_session(begun, resolved=draft, is_trial=True)

    def restore(
        self,
        key: FileKey,
        change_id: str,
        *,
        author: Author,
        etag: str | None = None,
        message: str = "",
        insist: bool = False,
    ) -> Saved:
        """Save the text that a file had at a change; a file that is gone is there again.

        Arguments:
            etag: of the text that it replaces; None: whatever is there now.

        Raises what :meth:`source_at` and :meth:`save` raise.
        """
        text = self.source_at(key, change_id)
        with held(self._lock):
            if etag is None:
                try:
                    etag = self._files.read(key).etag
                except NotFoundError:
                    etag = ""
            return self.save(
                key,
                text,
                etag=etag,
                author=author,
                message=message,
                insist=insist,
                action="restored",
            )

    def _remembered(self, source: Source) -> Source:
        with held(self._lock):
            self._opened[source.etag] = source.text
            self._opened.move_to_end(source.etag)
            while len(self._opened) > _MOST_OPENED:
                self._opened.popitem(last=False)
        return source

    def _text_of(self, etag: str) -> str | None:
        with held(self._lock):
            opened = self._opened.get(etag)
        if opened is None:
            with suppress(NotFoundError, StorageError):
                return self._history.get_source(etag)
        return opened


_CHANGED = "%(file)s was changed meanwhile. Nothing was overwritten: look at both versions, and save what shall stand."
_EXTENDED = "'%(id)s' is named by others: %(users)s. Rename it together with what they say, or change them first."
_NEEDED = "'%(id)s' is needed by others: %(users)s. Without it they are broken."
_NEW_TEMPLATE = """\
{% message "system" %}{{ system }}{% endmessage %}
{% for example in examples %}
{% message "user" %}{{ example.user }}{% endmessage %}
{% message "assistant" %}{{ example.assistant }}{% endmessage %}
{% endfor %}
{% history %}
{% message "user" %}{{ input }}{% endmessage %}
"""
