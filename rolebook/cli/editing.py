"""The commands that write and keep files, the same for personas and prompt templates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import dropwhile
from typing import TYPE_CHECKING, Any

import click

from rolebook.cli.command import Command, Group, command
from rolebook.cli.invocation import Invocation, pass_invocation
from rolebook.core.errors import InputError, NotFoundError, Phrase

if TYPE_CHECKING:
    from rolebook.cli.terminal import Terminal
    from rolebook.core.difference import LineDifference
    from rolebook.core.edit import EditService
    from rolebook.core.history import Change, Commit
    from rolebook.core.source import FileKey

_MESSAGE = click.option("-m", "--message", metavar="TEXT", default="", help="Why, for the history.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
_SHORT = 8
_WAYS = {
    "browser": Phrase("browser"),
    "api": Phrase("over the API"),
    "command": Phrase("command line"),
    "disk": Phrase("on disk"),
    "import": Phrase("import"),
    "turn": Phrase("in a turn"),
}
_ACTIONS = {
    "created": Phrase("created"),
    "saved": Phrase("saved"),
    "seen": Phrase("seen"),
    "followed": Phrase("followed"),
    "renamed": Phrase("renamed"),
    "deleted": Phrase("deleted"),
    "restored": Phrase("restored"),
    "tried": Phrase("tried"),
    "used": Phrase("used"),
    "labelled": Phrase("labelled"),
}
_MOST_LISTED = 10_000


def add_editing(group: Group, kind: str) -> None:
    """Give a group the commands that edit files of a kind, ``persona`` or ``template``."""
    makers = [_new, _edit, _duplicate, _rename, _delete, _trash, _undelete]
    makers += [_history, _diff, _restore]
    if kind == "persona":
        makers.append(_label)
    example = "teacher" if kind == "persona" else "chat"
    for make in makers:
        group.add_command(make(f"{kind}s", kind, example))


def _key(kind: Any, file_id: str) -> FileKey:
    from rolebook.core.source import FileKey

    return FileKey(kind, file_id)


def _split(kind: Any, reference: str) -> tuple[FileKey, str]:
    """The file that a reference is about, and the label or revision behind its ``@``; empty: as it is now."""
    from rolebook.core.reference import split_reference

    if kind != "persona":
        return _key(kind, reference), ""
    persona_id, at = split_reference(reference)
    return _key(kind, persona_id), at


def _whole(kind: Any, reference: str) -> FileKey:
    """The file that shall be changed or moved. Raises InputError for what a label or revision names."""
    key, at = _split(kind, reference)
    if at:
        raise InputError(
            "'%(reference)s' is '%(id)s' as it was, and this is about its file as it is now: name '%(id)s' alone.",
            reference=reference[:160],
            id=key.id[:80],
        )
    return key


def _author() -> Any:
    from rolebook.core.source import Author

    return Author("command")


def _new(group: str, kind: str, example: str) -> Command:
    @command(
        name="new",
        help="""Begin a file and open it in your editor ($VISUAL or $EDITOR).

        It is checked when the editor closes, and saved if you have written something.""",
        examples=f"rolebook {group} new my-{example}\nrolebook {group} new my-{example} --no-edit",
    )
    @click.argument("file_id", metavar="ID")
    @click.option("--name", metavar="TEXT", default="", help="What people shall call it.")
    @click.option("--no-edit", is_flag=True, help="Save the beginning as it is, without an editor.")
    @_MESSAGE
    @pass_invocation
    def new(invocation: Invocation, file_id: str, name: str, no_edit: bool, message: str) -> None:
        from rolebook.cli.editor import edit_text

        edits, key = invocation.rolebook.edits, _key(kind, file_id)
        edits.require_free(key)
        text = edits.new_text(key, name, system=invocation.terminal.gettext("You are …"))
        if no_edit:
            saved = edits.save(key, text, etag="", author=_author(), message=message)
            invocation.terminal.tell("Saved as %(path)s.", path=saved.source.file)
        else:
            edit_text(invocation, key, text, etag="", message=message)

    return new


def _edit(group: str, kind: str, example: str) -> Command:
    @command(
        name="edit",
        help="""Open a file in your editor ($VISUAL or $EDITOR), on a copy.

        When the editor closes, it is checked. If something is wrong, you are asked whether to go on editing, save it
        anyway, or keep the draft elsewhere. If the file was changed meanwhile, both texts are put together first.
        Nothing that you have typed is thrown away.""",
        examples=f'rolebook {group} edit {example}\nEDITOR="code --wait" rolebook {group} edit {example} -m "Shorter"',
    )
    @click.argument("file_id", metavar="ID")
    @_MESSAGE
    @pass_invocation
    def edit(invocation: Invocation, file_id: str, message: str) -> None:
        from rolebook.cli.editor import edit_text

        key, at = _split(kind, file_id)
        if at:
            raise InputError(
                "What '%(reference)s' was stays as it was. To go on from there, bring it back first"
                " (rolebook personas restore %(reference)s), or make another persona of it"
                " (rolebook personas duplicate %(reference)s NEW_ID). The file as it is now:"
                " rolebook personas edit %(id)s",
                reference=file_id[:160],
                id=key.id[:80],
            )
        source = invocation.rolebook.edits.open(key)
        edit_text(invocation, source.key, source.text, etag=source.etag, message=message)

    return edit


def _duplicate(group: str, kind: str, example: str) -> Command:
    @command(
        name="duplicate",
        help="Copy a file, with its comments, under another id."
        + (
            "\n\nOf ID@LABEL or ID@REVISION it is the text that the file had then."
            if kind == "persona"
            else ""
        ),
        examples=f"rolebook {group} duplicate {example} my-{example}"
        + (
            f"\nrolebook {group} duplicate {example}@production my-{example}"
            if kind == "persona"
            else ""
        ),
    )
    @click.argument("file_id", metavar="ID")
    @click.argument("new_id", metavar="NEW_ID")
    @pass_invocation
    def duplicate(invocation: Invocation, file_id: str, new_id: str) -> None:
        key, at = _split(kind, file_id)
        saved = invocation.rolebook.edits.duplicate(key, new_id, author=_author(), at=at)
        invocation.terminal.tell("Saved as %(path)s.", path=saved.source.file)

    return duplicate


def _rename(group: str, kind: str, example: str) -> Command:
    @command(
        name="rename",
        help="""Give a file another id. Its history goes along; sessions and the log keep the old id.

        If others name it (extends, template, include), say --carry to change them too.""",
        examples=f"rolebook {group} rename {example} my-{example} --carry",
    )
    @click.argument("file_id", metavar="ID")
    @click.argument("new_id", metavar="NEW_ID")
    @click.option("--carry", is_flag=True, help="Change the files that name it along with it.")
    @pass_invocation
    def rename(invocation: Invocation, file_id: str, new_id: str, carry: bool) -> None:
        saved = invocation.rolebook.edits.rename(
            _whole(kind, file_id), new_id, author=_author(), carry=carry
        )
        invocation.terminal.tell("Saved as %(path)s.", path=saved.source.file)

    return rename


def _delete(group: str, kind: str, example: str) -> Command:
    @command(
        name="delete",
        help="Move a file to the trash, from where `undelete` takes it out again.",
        examples=f"rolebook {group} delete {example}",
    )
    @click.argument("file_id", metavar="ID")
    @click.option("--anyway", is_flag=True, help="Although others need it.")
    @pass_invocation
    def delete(invocation: Invocation, file_id: str, anyway: bool) -> None:
        trashed = invocation.rolebook.edits.delete(
            _whole(kind, file_id), author=_author(), insist=anyway
        )
        invocation.terminal.tell(
            "In the trash. Take it out again with: rolebook %(group)s undelete %(id)s",
            group=group,
            id=trashed.id,
        )

    return delete


def _trash(group: str, kind: str, example: str) -> Command:
    @command(
        name="trash",
        help="List what was deleted, the newest first.",
        examples=f"rolebook {group} trash",
    )
    @_JSON
    @pass_invocation
    def trash(invocation: Invocation, as_json: bool) -> None:
        found = [t for t in invocation.rolebook.edits.trash() if t.key.kind == kind]
        if as_json:
            invocation.terminal.write_json(
                [{"trash_id": t.id, "id": t.key.id, "deleted_at": t.deleted_at} for t in found]
            )
        else:
            rows = [(t.id, t.key.id, t.deleted_at) for t in found]
            invocation.terminal.write_table(("Number", "ID", "Deleted"), rows)

    return trash


def _undelete(group: str, kind: str, example: str) -> Command:
    @command(
        name="undelete",
        help="""Take a file out of the trash, by its id or by its number there.

        Nothing is overwritten: if the id is taken, give another one with --as.""",
        examples=f"rolebook {group} undelete {example}\nrolebook {group} undelete {example} --as old-{example}",
    )
    @click.argument("file_id", metavar="ID")
    @click.option("--as", "as_id", metavar="ID", default="", help="Its id from now on.")
    @pass_invocation
    def undelete(invocation: Invocation, file_id: str, as_id: str) -> None:
        edits = invocation.rolebook.edits
        mine = [t for t in edits.trash() if t.key.kind == kind]
        found = next((t for t in mine if file_id in (t.id, t.key.id)), None)
        if found is None:
            raise NotFoundError("There is no %(id)s in the trash.", id=file_id[:80])
        saved = edits.undelete(found.id, author=_author(), as_id=as_id)
        invocation.terminal.tell("Saved as %(path)s.", path=saved.source.file)

    return undelete


def _history(group: str, kind: str, example: str) -> Command:
    @command(
        name="history",
        help="""List what became of a file, the newest first: when, what, by whom, at which revision.

        Changes on disk and by git are in it too. The number is what `diff` and `restore` take."""
        + (
            "\n\nOf ID@LABEL or ID@REVISION the list begins where the file last was that."
            if kind == "persona"
            else ""
        ),
        examples=f"rolebook {group} history {example}\nrolebook {group} history {example} --limit 5 --json",
    )
    @click.argument("file_id", metavar="ID")
    @click.option(
        "--git", "is_git", is_flag=True, help="List the commits of its git repository instead."
    )
    @click.option("--limit", type=click.IntRange(1, _MOST_LISTED), default=50, metavar="NUMBER",
                  help="At most this many; 50 unless given.")  # fmt: skip
    @_JSON
    @pass_invocation
    def history(
        invocation: Invocation, file_id: str, is_git: bool, limit: int, as_json: bool
    ) -> None:
        terminal, edits = invocation.terminal, invocation.rolebook.edits
        key, at = _split(kind, file_id)
        if at and is_git:
            _whole(kind, file_id)
        key = _known(edits, key)
        if is_git:
            _show_commits(terminal, edits.commits(key)[:limit], as_json)
            return
        changes = _changes(edits, key, at, limit)
        if as_json:
            terminal.write_json([change.as_data() for change in changes])
            return
        rows = [_row(terminal, change) for change in changes]
        headings = ("Number", "When", "What", "By", "Revision", "Sessions", "Labels", "Why")
        terminal.write_table(headings, rows)

    return history


def _changes(edits: EditService, key: FileKey, at: str, limit: int) -> Sequence[Change]:
    """The newest changes, or those that led to what a label or revision means."""
    if not at:
        return edits.history(key, limit=limit).changes
    first = edits.find_change(key, at).id
    changes = edits.history(key, limit=_MOST_LISTED).changes
    return list(dropwhile(lambda change: change.id != first, changes))[:limit]


def _show_commits(terminal: Terminal, commits: Sequence[Commit], as_json: bool) -> None:
    if as_json:
        terminal.write_json([asdict(commit) for commit in commits])
    else:
        rows = [(c.id[:12], c.created_at, c.author, c.subject) for c in commits]
        terminal.write_table(("Commit", "When", "By", "Why"), rows)


def _known(edits: EditService, key: FileKey) -> FileKey:
    """The key of a file that is there or has a history. Raises NotFoundError."""
    if not edits.history(key, limit=1).changes:
        edits.open(key)
    return key


def _row(terminal: Terminal, change: Change) -> Sequence[str]:
    why = [change.message] if change.message else []
    if change.former:
        why.append(change.former)
    why += [str(cause) for cause in change.causes]
    by = terminal.gettext(str(_WAYS[change.author.via]))
    return (
        change.id,
        change.created_at,
        terminal.gettext(str(_ACTIONS[change.action])),
        f"{by} {change.author.name}".strip(),
        change.revision[:_SHORT] + ("*" if change.is_current else ""),
        str(change.sessions or ""),
        ", ".join(change.labels),
        "; ".join(why),
    )


def _diff(group: str, kind: str, example: str) -> Command:
    @command(
        name="diff",
        help="""Show what changed between two versions of a file.

        OLD and NEW are numbers from its history, labels or revisions. Without NEW it is the file as it is now; without
        OLD the version before that."""
        + ("\n\nID@LABEL and ID@REVISION name OLD already." if kind == "persona" else ""),
        examples=f"rolebook {group} diff {example}"
        + (f"\nrolebook {group} diff {example} production --resolved" if kind == "persona" else ""),
    )
    @click.argument("file_id", metavar="ID")
    @click.argument("old", metavar="[OLD]", default="")
    @click.argument("new", metavar="[NEW]", default="")
    @click.option(
        "--resolved",
        is_flag=True,
        help="Compare what is used, with bases and templates, and not the text.",
    )
    @click.option("--json", "as_json", is_flag=True, help="Print the lines as JSON.")
    @pass_invocation
    def diff(
        invocation: Invocation, file_id: str, old: str, new: str, resolved: bool, as_json: bool
    ) -> None:
        edits, terminal = invocation.rolebook.edits, invocation.terminal
        key, at = _split(kind, file_id)
        if at and new:
            raise InputError(
                "'%(reference)s' names the older version already: name one more, or none.",
                reference=file_id[:160],
            )
        if at:
            old, new = at, old
        key = _known(edits, key)
        found = edits.difference(key, old or _version_before(edits, key), new)
        lines = found.resolved if resolved else found.source
        if lines is None:
            raise InputError(
                "The text of one of these versions is not known; --resolved compares what was used."
                if not resolved
                else "A prompt template has nothing but its text: leave --resolved out."
            )
        if as_json:
            terminal.write_json([line.as_data() for line in lines])
        else:
            _show_lines(terminal, lines)

    return diff


def _version_before(edits: EditService, key: FileKey) -> str:
    """The newest change with another text or revision than the file has now."""
    changes = edits.history(key, limit=200).changes
    current = next((change for change in changes if change.is_current), None)
    for change in changes:
        is_other = current is None or (change.source, change.revision) != (
            current.source,
            current.revision,
        )
        if is_other and change.source and change.action not in ("tried", "labelled"):
            return change.id
    raise NotFoundError("'%(id)s' has no version before this one.", id=key.id)


def _show_lines(terminal: Terminal, lines: Sequence[LineDifference]) -> None:
    for line in lines:
        if line.kind == "same":
            continue
        for sign, text, colour in (("-", line.old, "red"), ("+", line.new, "green")):
            for part in text.splitlines():
                terminal.write_styled(f"{sign} {part}\n", fg=colour)


def _restore(group: str, kind: str, example: str) -> Command:
    @command(
        name="restore",
        help="""Save the text that a file had once, by its number in `history`.

        That is a new change; a file that is gone is there again."""
        + ("\n\nID@LABEL and ID@REVISION need no number." if kind == "persona" else ""),
        examples=f"rolebook {group} restore {example} 01kajq3m5w8r2c9x0v -m 'It was better'"
        + (f"\nrolebook {group} restore {example}@production" if kind == "persona" else ""),
    )
    @click.argument("file_id", metavar="ID")
    @click.argument("number", metavar="[NUMBER]", default="")
    @click.option("--anyway", is_flag=True, help="Although it has errors today.")
    @_MESSAGE
    @pass_invocation
    def restore(
        invocation: Invocation, file_id: str, number: str, anyway: bool, message: str
    ) -> None:
        from rolebook.core.source import DraftError

        edits, (key, at) = invocation.rolebook.edits, _split(kind, file_id)
        if bool(at) == bool(number):
            raise InputError(
                "Name one version to restore, such as a number from: rolebook %(group)s history %(id)s",
                group=group,
                id=key.id[:80],
            )
        try:
            saved = edits.restore(
                key,
                edits.find_change(key, at).id if at else number,
                author=_author(),
                message=message,
                insist=anyway,
            )
        except DraftError:
            invocation.terminal.tell(
                "This text has errors today, so it was not restored. To restore it all the same, say --anyway."
            )
            raise
        _tell_saved(invocation.terminal, saved.source.file, saved.is_changed)

    return restore


def _tell_saved(terminal: Terminal, path: str, is_changed: bool) -> None:
    if is_changed:
        terminal.tell("Saved as %(path)s.", path=path)
    else:
        terminal.tell("It is the same text already; nothing was written.")


def _label(group: str, kind: str, example: str) -> Command:
    @command(
        name="label",
        help="""List the labels of a persona, or let one point at a revision.

        AT is another label, a revision or nothing: the persona as it is now. A label can be used wherever an id can:
        teacher@production. As ID here, it lists the labels of the same revision, or stands for AT.""",
        examples="""
        rolebook personas label teacher
        rolebook personas label teacher production
        rolebook personas label teacher production 3f9c
        rolebook personas label teacher draft --remove
        rolebook ask teacher@production "Why is the sky blue?"
        """,
    )
    @click.argument("file_id", metavar="ID")
    @click.argument("name", metavar="[NAME]", default="")
    @click.argument("at", metavar="[AT]", default="")
    @click.option("--remove", is_flag=True, help="Take the label away.")
    @_JSON
    @pass_invocation
    def label(
        invocation: Invocation, file_id: str, name: str, at: str, remove: bool, as_json: bool
    ) -> None:
        edits, terminal = invocation.rolebook.edits, invocation.terminal
        key, pin = _split(kind, file_id)
        if pin and (at or remove):
            _whole(kind, file_id)
        if not name:
            _known(edits, key)
            found = edits.labels(key.id)
            if pin:
                meant = invocation.rolebook.find_persona(file_id).revision.id
                found = [one for one in found if one.revision == meant]
            if as_json:
                keys = ("name", "revision", "created_at")
                terminal.write_json([{key: getattr(n, key) for key in keys} for n in found])
            else:
                rows = [(n.name, n.revision[:_SHORT], n.created_at) for n in found]
                terminal.write_table(("Label", "Revision", "Since"), rows)
        elif remove:
            edits.remove_label(key.id, name, author=_author())
            terminal.tell("The label %(name)s is taken away.", name=name)
        else:
            _known(edits, key)
            made = edits.set_label(key.id, name, at or pin, author=_author())
            terminal.tell(
                "%(reference)s is revision %(revision)s now.",
                reference=f"{key.id}@{name}",
                revision=made.revision[:_SHORT],
            )

    return label
