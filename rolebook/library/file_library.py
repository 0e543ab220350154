"""The folders of personas and prompt templates, read again whenever they change."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from rolebook.core.chat import described
from rolebook.core.errors import FileError, InputError, NotFoundError, Problem
from rolebook.core.fault import FaultyDataError
from rolebook.core.fields import in_line, nearest
from rolebook.core.frozen import frozen
from rolebook.core.naming import KEPT_NAME, PERSONA_ID, is_persona_id
from rolebook.core.persona import Fragment, ResolvedPersona, parse_persona
from rolebook.core.reference import split_reference
from rolebook.core.source import FileKey, plain_text
from rolebook.library.file_store import remove_unfinished
from rolebook.library.folder import Signature, is_settled, list_files, printable, read_file, shown
from rolebook.library.persona_file import PersonaFile, build_persona, merge_data, read_persona_file
from rolebook.library.watch import Watch, open_watch
from rolebook.library.yaml_text import MAX_BYTES, decode

_MAX_TEMPLATE_BYTES = 256 * 1024
_MAX_BASES = 8
_PERSONAS = (".yaml", ".yml")
_TEMPLATES = (".jinja",)
#: So few files are looked at with every call where nobody tells of changes. More take longer, and of the time that
#: passes at most this share goes into looking, as long as a change is still seen soon.
_FREE_FILES = 100
_SCAN_SHARE = 0.005
_LONGEST_UNSEEN_S = 0.6
#: Where the system tells of changes, it is looked all the same after so long.
_BELIEVED_S = 60.0
#: Who follows without being told looks as often as its share of the time allows, within these limits; after the longer
#: one it tries to be told.
_FOLLOWER_SHARE = 0.002
_FOLLOWED_S = (0.2, 20.0)
_logger = logging.getLogger(__name__)

_TEXT = r"""(?:"[^"\n]*"|'[^'\n]*')"""
_TEXTS = rf"[(\[]\s*{_TEXT}(?:\s*,\s*{_TEXT})*\s*(?:,\s*)?[)\]]"
#: A tag that names other templates: one, several to choose from, or one or another on a condition.
_REFERENCE = re.compile(
    rf"\{{%[-+]?\s*(?:include|import|from|extends)\s*(?P<names>{_TEXT}|{_TEXTS})"
    rf"(?:\s+if\s(?:[^%\"']|%(?!\}})|{_TEXT}){{0,200}}?\selse\s+(?P<other>{_TEXT}))?"
)
_QUOTED = re.compile(_TEXT)


@frozen
class PersonaEntry:
    """A persona file as the library sees it.

    ``resolved`` is missing when no version of it was ever good. ``is_stale`` says that the file is
    broken now and its last good version is still in use; ``fragment`` is what could be read of a broken one.
    ``source`` is the text of the file as :class:`rolebook.core.source.Source` has it, ``bases`` are the ids that it
    extends, the nearest first.
    """

    id: str
    file: str
    resolved: ResolvedPersona | None
    problems: tuple[Problem, ...]
    is_stale: bool = False
    source: str = ""
    bases: tuple[str, ...] = ()
    fragment: Fragment | None = None

    @property
    def to_try(self) -> ResolvedPersona | Fragment | None:
        """What trial renderings can tell more of than its problems do."""
        return None if self.fragment is None and self.is_stale else self.fragment or self.resolved

    @property
    def errors(self) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.problems if problem.severity == "error")


@frozen
class _Snapshot:
    entries: Mapping[str, PersonaEntry]
    templates: Mapping[str, str]
    problems: tuple[Problem, ...]


class FileLibrary:
    """Personas and prompt templates from two folders. Safe for threads.

    A change on disk is seen by the next call, in a large library within a second. Nothing runs in between; who runs all
    the time may :meth:`follow` it.

    Arguments:
        personas: folder of ``*.yaml``.
        templates: folder of ``*.jinja``.
    """

    def __init__(self, personas: Path, templates: Path) -> None:
        self.personas_dir = personas
        self.templates_dir = templates
        self._lock = threading.Lock()
        self._signatures: Mapping[str, Signature] = {}
        self._unsettled: set[str] = set()
        self._files: dict[str, PersonaFile] = {}
        self._snapshot = _Snapshot({}, {}, ())
        self._is_due = True
        self._scanned_at = 0.0
        self._scan_s = 0.0
        self._watch: Watch | None = None
        self._generation = 0
        self._is_readable = True
        self._is_flat = False
        for folder in (personas, templates):
            remove_unfinished(folder)

    def entries(self) -> Sequence[PersonaEntry]:
        """Every persona file, by id."""
        entries = self._fresh().entries
        return [entries[persona_id] for persona_id in sorted(entries)]

    def personas(self) -> Sequence[ResolvedPersona]:
        """Every persona that can be used, by id."""
        return [entry.resolved for entry in self.entries() if entry.resolved]

    def templates(self) -> Mapping[str, str]:
        """The prompt templates by name."""
        return self._fresh().templates

    def problems(self) -> Sequence[Problem]:
        """Everything that is wrong or doubtful, by file and line."""
        snapshot = self._fresh()
        problems = list(snapshot.problems)
        for entry in snapshot.entries.values():
            problems += entry.problems
        return sorted(set_of(problems), key=lambda p: (p.file, p.line, p.column))

    def get_entry(self, persona_id: str) -> PersonaEntry:
        """Raises NotFoundError."""
        entry = self._fresh().entries.get(persona_id)
        if entry is None:
            raise NotFoundError("There is no persona '%(id)s'.", id=persona_id[:80])
        return entry

    def get_persona(self, persona_id: str) -> ResolvedPersona:
        """As on disk now, or its last good version. Raises NotFoundError, FileError."""
        entry = self.get_entry(persona_id)
        if entry.resolved is None:
            raise FileError(entry.errors)
        return entry.resolved

    def get_described(self, system: str) -> ResolvedPersona:
        """A persona without a file, from nothing but its system text."""
        return described(system, reachable("chat", self.templates()))

    def get_changed(self, resolved: ResolvedPersona, changes: Mapping[str, Any]) -> ResolvedPersona:
        """The persona with some keys of its file changed: maps merge key by key, all else is replaced.

        Raises InputError.
        """
        try:
            persona = parse_persona(
                resolved.persona.id, merge_data(resolved.persona.as_data(), changes)
            )
        except FaultyDataError as error:
            raise error.as_input_error() from None
        templates = {**self.templates(), **resolved.templates}
        if persona.template_name not in templates:
            raise InputError(
                "There is no prompt template '%(name)s'. There are: %(known)s.",
                name=persona.template_name,
                known=", ".join(sorted(templates)) or "–",
            )
        unchanged = {
            text: place
            for text, place in resolved.places.items()
            if re.split(r"[.\[]", text, maxsplit=1)[0] not in changes
        }
        reached = reachable(persona.template_name, templates)
        return ResolvedPersona(persona, reached, unchanged, resolved.templates_dir)

    @property
    def generation(self) -> int:
        """Grows whenever something in the folders has changed."""
        self._fresh()
        return self._generation

    @property
    def is_readable(self) -> bool:
        """Whether both folders could be looked into."""
        return self._is_readable

    def forget(self) -> None:
        """Look again at the next call, however recently that was done."""
        self._is_due = True

    def follow(self, wake: threading.Event) -> Generator[None]:
        """Come back at once, and then whenever ``wake`` was set or something may have changed, until it is closed.

        Where the system tells of changes, calls rely on that meanwhile, and a thousand files cost nothing to follow.
        """

        def change() -> None:
            self.forget()
            wake.set()

        folders = (self.personas_dir, self.templates_dir)
        next_try = 0.0
        try:
            while True:
                wake.clear()
                if self._watch is not None and self._watch.is_over:
                    self._unwatch()
                    next_try = 0.0
                if self._watch is None and time.monotonic() >= next_try:
                    self._watch = open_watch(folders, (*_PERSONAS, *_TEMPLATES), change)
                    next_try = time.monotonic() + _FOLLOWED_S[1]
                    self.forget()
                yield
                wake.wait(self._pause_of_follower_s())
        finally:
            self._unwatch()

    def _unwatch(self) -> None:
        watch, self._watch = self._watch, None
        self.forget()
        if watch is not None:
            watch.close()

    def entries_with(
        self,
        *,
        persona: tuple[str, str] | None = None,
        template: tuple[str, str] | None = None,
    ) -> Sequence[PersonaEntry]:
        """How entries would be if a file had another text: those that it is part of, its own first, others by id.

        Arguments:
            persona: the id and the text of a persona file, which need not be there yet.
            template: the same of a prompt template.
        """
        snapshot = self._fresh()
        files, templates = dict(self._files), dict(snapshot.templates)
        if persona:
            persona_id, text = persona
            known = files.get(persona_id)
            name = known.file if known else shown(self.personas_dir / f"{persona_id}.yaml")
            source = text.encode("utf-8", "surrogatepass")
            files[persona_id] = read_persona_file(persona_id, file=name, source=source)
        if template:
            templates[template[0]] = template[1]
        folder = f"{shown(self.templates_dir)}/"
        found: list[PersonaEntry] = []
        for id in sorted(files):
            chain, problems = _chain(id, files)
            before = snapshot.entries.get(id)
            if (persona and persona[0] in [file.id for file in chain]) or (
                template and _reaches(template[0], before, chain, templates)
            ):
                found.append(_build_entry(files[id], chain, problems, templates, folder))
        return sorted(found, key=lambda entry: not (persona and entry.id == persona[0]))

    def resolve_plainly(self, template: str, text: str) -> ResolvedPersona:
        """A persona with nothing but a system text that renders with a template of this text."""
        persona = parse_persona("", {"name": template, "system": "…", "template": template})
        templates = {**self.templates(), template: text}
        folder = f"{shown(self.templates_dir)}/"
        return ResolvedPersona(persona, reachable(template, templates), templates_dir=folder)

    def users_of(self, key: FileKey) -> Sequence[FileKey]:
        """The files that name this one: personas that extend it or render with it, templates that include it."""
        snapshot = self._fresh()
        if key.kind == "persona":
            extending = [id for id, file in self._files.items() if file.base == key.id]
            return [FileKey("persona", id) for id in sorted(extending)]
        rendering = [
            entry.id
            for entry in snapshot.entries.values()
            if entry.resolved and entry.resolved.persona.template_name == key.id
        ]
        including = [
            name
            for name, text in snapshot.templates.items()
            if name != key.id and key.id in _references(text)
        ]
        return [
            *(FileKey("persona", id) for id in sorted(rendering)),
            *(FileKey("template", name) for name in sorted(including)),
        ]

    def _fresh(self) -> _Snapshot:
        """The library as it is on disk now."""
        with self._lock:
            # In this order: what is no news any more has been told.
            if time.monotonic() - self._scanned_at >= self._pause_s() or self._is_due:
                self._refresh()
            return self._snapshot

    @property
    def is_told(self) -> bool:
        """Whether the system tells of whatever changes now, so that looking is a mere precaution."""
        watch = self._watch
        is_complete = self._is_flat and not self._unsettled
        return is_complete and watch is not None and not watch.is_over

    def _pause_s(self) -> float:
        """How long a call relies on what was seen last."""
        watch = self._watch
        if self.is_told and watch is not None and not watch.has_news:
            return _BELIEVED_S
        if len(self._signatures) <= _FREE_FILES:
            return 0.0
        return min(self._scan_s / _SCAN_SHARE, _LONGEST_UNSEEN_S)

    def _pause_of_follower_s(self) -> float:
        if self.is_told:
            return _BELIEVED_S
        shortest, longest = _FOLLOWED_S
        return min(max(self._scan_s / _FOLLOWER_SHARE, shortest), longest)

    def _refresh(self) -> None:
        # First, because whoever is told of a change during the look asks for another one.
        self._is_due = False
        # The thread's own time: on a busy machine looking takes no more of it, only longer.
        began = time.thread_time()
        personas = list_files(self.personas_dir, _PERSONAS)
        templates = list_files(self.templates_dir, _TEMPLATES)
        self._scan_s = time.thread_time() - began
        self._scanned_at = time.monotonic()
        self._is_readable = personas.is_readable and templates.is_readable
        self._is_flat = personas.is_flat and templates.is_flat
        # The endings tell the files of the two folders apart.
        signatures = {**personas.files, **templates.files}
        problems = [*personas.problems, *templates.problems]
        if (
            signatures == self._signatures
            and not self._unsettled
            and list(self._snapshot.problems[: len(problems)]) == problems
        ):
            return
        changed = {
            name
            for name, signature in signatures.items()
            if self._signatures.get(name) != signature or name in self._unsettled
        }
        sources, unreadable = self._read_templates(templates.files, changed)
        files, misnamed = self._read_personas(personas.files, changed)
        entries = {persona_id: self._entry(persona_id, files, sources) for persona_id in files}
        self._files = files
        self._snapshot = _Snapshot(entries, sources, (*problems, *unreadable, *misnamed))
        self._signatures = signatures
        self._generation += 1
        self._unsettled = {name for name in signatures if not is_settled(signatures[name])}

    def _read_templates(
        self, names: Iterable[str], changed: set[str]
    ) -> tuple[dict[str, str], list[Problem]]:
        templates: dict[str, str] = {}
        problems: list[Problem] = []
        for name in names:
            path = self.templates_dir / name
            if name not in changed and path.stem in self._snapshot.templates:
                templates[path.stem] = self._snapshot.templates[path.stem]
                continue
            try:
                templates[path.stem] = _read_template(path)
            except FileError as error:
                problems += error.problems
                with suppress(KeyError):
                    templates[path.stem] = self._snapshot.templates[path.stem]
        return templates, problems

    def _read_personas(
        self, names: Iterable[str], changed: set[str]
    ) -> tuple[dict[str, PersonaFile], list[Problem]]:
        files: dict[str, PersonaFile] = {}
        problems: list[Problem] = []
        folder = shown(self.personas_dir)
        for name in sorted(names):
            persona_id = name.rpartition(".")[0]
            known = self._files.get(persona_id)
            file = f"{folder}/{printable(name)}"
            if not is_persona_id(persona_id):
                problems.append(_misnamed(persona_id, file))
            elif persona_id in files:
                problems.append(_doubled(file, files[persona_id].file))
            elif known and known.file == file and name not in changed:
                files[persona_id] = known
            else:
                files[persona_id] = _read_persona(self.personas_dir / name, file)
        return files, problems

    def _entry(
        self, persona_id: str, files: Mapping[str, PersonaFile], templates: Mapping[str, str]
    ) -> PersonaEntry:
        before = self._snapshot.entries.get(persona_id)
        chain, problems = _chain(persona_id, files)
        is_same = before and all(self._files.get(file.id) is file for file in chain)
        if is_same and before and templates == self._snapshot.templates and not problems:
            return before
        folder = f"{shown(self.templates_dir)}/"
        entry = _build_entry(files[persona_id], chain, problems, templates, folder)
        if entry.resolved is None and before is not None and before.resolved is not None:
            return replace(entry, resolved=before.resolved, is_stale=True)
        return entry


def _build_entry(
    file: PersonaFile,
    chain: Sequence[PersonaFile],
    problems: Sequence[Problem],
    templates: Mapping[str, str],
    templates_dir: str,
) -> PersonaEntry:
    bases = tuple(base.id for base in reversed(chain) if base.id != file.id)
    entry = PersonaEntry(file.id, file.file, None, (), source=plain_text(file.text), bases=bases)
    if file.document is None:
        return replace(entry, problems=tuple(problems))
    usable = [part for part in chain if part.document is not None]
    built = build_persona(usable, is_whole=not problems)
    found = [*problems, *built.problems]
    persona, unread = built.persona, built.unread
    if persona is None:
        return replace(entry, problems=tuple(found))
    name = persona.template_name
    # Without its bases or its own word, it is not known which one it would be.
    knows_template = bool(persona.template) or not (problems or unread & {"template", "endpoint"})
    if knows_template and name not in templates:
        found.append(_missing_template(_line_of_key(chain, "template"), name, templates))
    is_good = not unread and name in templates
    reached = reachable(name, templates) if is_good else dict(templates)
    resolved = ResolvedPersona(persona, reached, built.places, templates_dir, entry.source)
    if is_good:
        return replace(entry, resolved=resolved, problems=tuple(found))
    is_sure = knows_template and name in templates and not unread & {"endpoint", "examples"}
    parts = ("greeting", "system", *([name] if is_sure else []))
    fragment = Fragment(resolved, parts, knows_names="variables" not in unread)
    return replace(entry, problems=tuple(found), fragment=fragment)


def _reaches(
    name: str,
    before: PersonaEntry | None,
    chain: Sequence[PersonaFile],
    templates: Mapping[str, str],
) -> bool:
    """Whether a prompt template is part of a persona, as it is or as it would be with these templates."""
    if before and before.resolved:
        known = before.resolved
        return name in known.templates or name in reachable(known.persona.template_name, templates)
    data = {
        key: value for file in chain if file.document for key, value in file.document.data.items()
    }
    return data.get("template") == name


def _line_of_key(chain: Sequence[PersonaFile], key: str) -> tuple[str, int, int]:
    for file in reversed(chain):
        if file.document is not None and (key,) in file.document.marks:
            mark = file.document.marks[key,]
            return mark.file, mark.line, mark.column
    return chain[-1].file, 1, 1


def _chain(
    persona_id: str, files: Mapping[str, PersonaFile]
) -> tuple[list[PersonaFile], list[Problem]]:
    """A file with its bases before it, and what keeps them from being used."""
    chain: list[PersonaFile] = []
    current = persona_id
    while current:
        file = files[current]
        chain.insert(0, file)
        if file.document is None:
            return chain, list(file.problems)
        base = file.base
        if not base:
            break
        place = _line_of_key([file], "extends")
        if base not in files:
            return chain, [_missing_base(place, base, files)]
        if any(base == known.id for known in chain) or len(chain) > _MAX_BASES:
            return chain, [
                Problem(
                    *place,
                    "'%(id)s' extends itself in the end, or more than %(limit)s bases.",
                    {"id": persona_id, "limit": _MAX_BASES},
                )
            ]
        current = base
    return chain, []


def _missing_base(place: tuple[str, int, int], base: str, known: Iterable[str]) -> Problem:
    base_id, at = split_reference(base)
    if base_id and at:
        message = (
            "A persona extends another one as its file is now, so no label or revision can be named here:"
            " write '%(id)s' instead of '%(got)s'."
        )
        return Problem(*place, message, {"id": in_line(base_id), "got": in_line(base)})
    if near := nearest(base.removesuffix(".yaml"), known):
        message = "There is no persona '%(id)s' to extend. Did you mean '%(near)s'?"
        return Problem(*place, message, {"id": in_line(base), "near": near})
    return Problem(*place, "There is no persona '%(id)s' to extend.", {"id": in_line(base)})


def _missing_template(place: tuple[str, int, int], name: str, templates: Iterable[str]) -> Problem:
    parameters = {"name": in_line(name), "known": ", ".join(sorted(templates)) or "–"}
    message = "There is no prompt template '%(name)s'. There are: %(known)s."
    if near := nearest(name.removesuffix(".jinja"), templates):
        parameters["near"] = near
        message = (
            "There is no prompt template '%(name)s'. Did you mean '%(near)s'? There are: %(known)s."
        )
    return Problem(*place, message, parameters)


def reachable(name: str, templates: Mapping[str, str]) -> dict[str, str]:
    """A prompt template and those it includes, imports or extends by name."""
    found: dict[str, str] = {}
    pending = [name]
    while pending:
        current = pending.pop().removesuffix(".jinja")
        if current in templates and current not in found:
            found[current] = templates[current]
            pending += _references(templates[current])
    return dict(sorted(found.items()))


def _references(template: str) -> list[str]:
    """The names of those that a prompt template includes, imports or extends."""
    return [template[part].removesuffix(".jinja") for part in _reference_places(template)]


def _reference_places(template: str) -> Iterator[slice]:
    """Where in a prompt template the names of others stand, without their quotes."""
    for tag in _REFERENCE.finditer(template):
        for group in ("names", "other"):
            for name in _QUOTED.finditer(template, *tag.span(group)):
                yield slice(name.start() + 1, name.end() - 1)


def renamed_references(template: str, old: str, new: str) -> str:
    """The text of a prompt template in which another one has another name wherever it is included."""
    parts, end = [], 0
    for place in _reference_places(template):
        name = template[place]
        if name.removesuffix(".jinja") == old:
            parts += [template[end : place.start], name.replace(old, new, 1)]
            end = place.stop
    return "".join([*parts, template[end:]])


def set_of(problems: Sequence[Problem]) -> list[Problem]:
    """Each problem once: a broken base is reported by all that extend it."""
    return list({str(problem): problem for problem in problems}.values())


def _read_template(path: Path) -> str:
    """Raises FileError."""
    file = shown(path)
    if not path.stem.isprintable():
        message = "The name of this file has a character that cannot be seen: rename it."
        raise FileError([Problem(file, 1, 1, message)])
    try:
        source = read_file(path, limit=_MAX_TEMPLATE_BYTES)
        return plain_text(decode(source, file=file))
    except FileError:
        raise
    except InputError as error:
        raise FileError([Problem(file, 1, 1, error.message, error.parameters)]) from None


def _read_persona(path: Path, file: str) -> PersonaFile:
    try:
        source = read_file(path, limit=MAX_BYTES)
    except InputError as error:
        problem = Problem(file, 1, 1, error.message, error.parameters)
        return PersonaFile(path.stem, file, "", None, (problem,))
    return read_persona_file(path.stem, file=file, source=source)


def _misnamed(name: str, file: str) -> Problem:
    if PERSONA_ID.fullmatch(name):
        return Problem(file, 1, 1, KEPT_NAME, {"name": name})
    return Problem(
        file,
        1,
        1,
        "The file name makes no id: use lower-case letters, digits, - and _, 64 at most.",
    )


def _doubled(file: str, other: str) -> Problem:
    return Problem(file, 1, 1, "It has the same id as %(other)s and is left out.", {"other": other})
