"""A file in an editor of one's own: on a copy, checked when it closes, and never thrown away."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rolebook.cli.invocation import Invocation
from rolebook.core.errors import InputError, NotFoundError, Phrase

if TYPE_CHECKING:
    from rolebook.core.checking import Checked
    from rolebook.core.edit import EditConflict
    from rolebook.core.source import FileKey


def edit_text(
    invocation: Invocation, key: FileKey, text: str, *, etag: str, message: str = ""
) -> None:
    """Let somebody edit a text, and save it.

    Arguments:
        etag: of the file that it comes from; empty for a new one.

    Raises RolebookError when it is not saved; then it has been said where the draft is.
    """
    suffix = ".yaml" if key.kind == "persona" else ".jinja"
    folder = Path(tempfile.mkdtemp(prefix="rolebook-"))
    draft = folder / f"{key.id}{suffix}"
    draft.write_text(text, "utf-8", newline="\n")
    try:
        is_done = _Editing(invocation, key, draft, etag, message).run(text)
    except BaseException:
        invocation.terminal.tell("Your draft is kept in %(path)s.", path=draft)
        raise
    if is_done:
        draft.unlink(missing_ok=True)
        folder.rmdir()
    else:
        invocation.terminal.tell("Your draft is kept in %(path)s.", path=draft)
        click.get_current_context().exit(1)


class _Editing:
    """One file in an editor, until it is saved or given up."""

    def __init__(
        self, invocation: Invocation, key: FileKey, draft: Path, etag: str, message: str
    ) -> None:
        environment = invocation.environment
        self._editor = environment.get("VISUAL") or environment.get("EDITOR")
        self._terminal = invocation.terminal
        self._edits = invocation.rolebook.edits
        self._key = key
        self._draft = draft
        self._etag = etag
        self._message = message

    def run(self, text: str) -> bool:
        """Edit, check and save again and again. Returns whether nothing is left that would be lost."""
        opened: str | None = text
        answer = "edit"
        while answer != "keep":
            if answer == "edit":
                self._open_editor()
                text = self._read()
                if text == opened:
                    self._terminal.tell("Nothing was changed, so nothing was saved.")
                    return True
                checked = self._edits.check(self._key, text)
                answer = self._ask_about(checked) if checked.errors else "save"
                continue
            merged = self._save(text)
            if merged is None:
                return True
            text, opened = merged, None
            answer = self._ask(Phrase("Your draft holds what was changed meanwhile too."))
        return False

    def _open_editor(self) -> None:
        try:
            click.edit(filename=str(self._draft), editor=self._editor)
        except click.ClickException as error:
            raise InputError(
                "The editor could not be used: %(reason)s. Name another one in VISUAL or EDITOR.",
                reason=error.format_message(),
            ) from None

    def _read(self) -> str:
        from rolebook.core.source import plain_text

        try:
            return plain_text(self._draft.read_text("utf-8"))
        except UnicodeDecodeError:
            raise InputError("The draft is not UTF-8; save it as UTF-8 in your editor.") from None

    def _save(self, text: str) -> str | None:
        """Save it. Returns a text with the changes of somebody else in it, if there are any."""
        from rolebook.core.edit import EditConflict
        from rolebook.core.source import Author

        try:
            saved = self._edits.save(
                self._key,
                text,
                etag=self._etag,
                author=Author("command"),
                message=self._message,
                insist=True,
            )
        except EditConflict as conflict:
            return self._merge(conflict)
        except NotFoundError as error:
            # Deleted meanwhile: if it is to be saved, then as a new file.
            self._terminal.fail(error)
            self._etag = ""
            return text
        self._terminal.tell("Saved as %(path)s.", path=saved.source.file)
        if saved.checked.errors and saved.checked.in_use:
            self._terminal.tell("Its last good version stays in use until the errors are gone.")
        return None

    def _merge(self, conflict: EditConflict) -> str:
        self._terminal.fail(conflict)
        self._etag = conflict.theirs.etag
        merged = conflict.merged
        self._draft.write_text(merged.text, "utf-8", newline="\n")
        if not merged.is_clean:
            self._terminal.tell(
                "Places where both changed the same lines: %(count)d. Marks show them.",
                count=merged.conflicts,
            )
        return merged.text

    def _ask_about(self, checked: Checked) -> str:
        for problem in checked.problems:
            self._terminal.fail_line(
                f"{problem.place}: {self._terminal.translator.problem(problem)}"
            )
        return self._ask(Phrase("There are errors."))

    def _ask(self, what: Phrase) -> str:
        """What to do with the draft: edit, save or keep. Where nobody can answer, it is kept."""
        say = self._terminal.gettext
        question = (
            f"{say(what.message)} {say('e: edit again, s: save, k: keep the draft elsewhere')}"
        )
        try:
            answer = click.prompt(
                question, type=click.Choice(["e", "s", "k"]), default="e", err=True
            )
        except click.Abort:
            return "keep"
        return {"e": "edit", "s": "save", "k": "keep"}[answer]
