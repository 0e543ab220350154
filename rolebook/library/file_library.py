"""The folders of personas and prompt templates, read again whenever they change."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rolebook.core.chat import described
from rolebook.core.errors import ConflictError, FileError, InputError, NotFoundError, Problem
from rolebook.core.persona import (
    PERSONA_ID,
    FaultyDataError,
    ResolvedPersona,
    is_persona_id,
    parse_persona,
)
from rolebook.library.folder import Signature, is_settled, list_files, printable, read_file, shown
from rolebook.library.persona_file import (
    PersonaFile,
    build_persona,
    merge_data,
    read_persona_file,
    schema_line,
)
from rolebook.library.yaml_text import MAX_BYTES, decode, dump_yaml

_MAX_TEMPLATE_BYTES = 256 * 1024
_MAX_BASES = 8
#: Looking whether something has changed is free below this; folders of many files take longer, and of the time that
#: passes at most this share goes into it, as long as a change is still seen soon.
_FREE_SCAN_S = 0.0005
_SCAN_SHARE = 0.008
_LONGEST_UNSEEN_S = 0.8
_REFERENCE = re.compile(r"""\{%-?\s*(?:include|import|from|extends)\s+["']([^"']+)["']""")
#: Unfinished writes; never read, removed when they are old.
_TEMPORARY = ".rolebook-"


@dataclass(frozen=True, slots=True)
class PersonaEntry:
    """A persona file as the library sees it.

    ``resolved`` is missing when no version of it was ever good. ``is_stale`` says that the file is
    broken now and its last good version is still in use.
    """

    id: str
    file: str
    resolved: ResolvedPersona | None
    problems: tuple[Problem, ...]
    is_stale: bool = False

    @property
    def errors(self) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.problems if problem.severity == "error")


@dataclass(frozen=True, slots=True)
class _Snapshot:
    entries: Mapping[str, PersonaEntry]
    templates: Mapping[str, str]
    problems: tuple[Problem, ...]


class FileLibrary:
    """Personas and prompt templates from two folders. Safe for threads.

    A change on disk is seen by the next call. Nothing runs in between.

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
        self._next_scan = 0.0
        _remove_unfinished(personas)

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
            fault = error.faults[0]
            raise InputError(fault.message, **fault.parameters) from None
        templates = {**self.templates(), **resolved.templates}
        if persona.template_name not in templates:
            raise InputError(
                "There is no prompt template '%(name)s'. There are: %(known)s.",
                name=persona.template_name,
                known=", ".join(sorted(templates)) or "–",
            )
        return ResolvedPersona(persona, reachable(persona.template_name, templates))

    def create_persona(self, persona_id: str, data: Mapping[str, Any]) -> Path:
        """Write a new persona file, whole or not at all. Returns its path.

        Raises InputError for an id that makes no file name, ConflictError if it is taken.
        """
        if not is_persona_id(persona_id):
            raise InputError(
                "'%(id)s' makes no id: use lower-case letters, digits, - and _, 64 at most.",
                id=persona_id[:80],
            )
        if persona_id in self._fresh().entries:
            raise ConflictError("There is already a persona '%(id)s'.", id=persona_id)
        try:
            text = schema_line("../docs/persona.schema.json") + dump_yaml(data)
        except ValueError:
            raise InputError(
                "The text holds a character that no file can hold (NUL, or half of a pair)."
                " Please remove it."
            ) from None
        path = self.personas_dir / f"{persona_id}.yaml"
        _write_new(path, text)
        self._next_scan = 0.0
        return path

    def _fresh(self) -> _Snapshot:
        """The library as it is on disk now."""
        with self._lock:
            if time.monotonic() >= self._next_scan:
                self._refresh()
            return self._snapshot

    def _refresh(self) -> None:
        # The thread's own time: on a busy machine looking takes no more of it, only longer.
        began = time.thread_time()
        personas = list_files(self.personas_dir, (".yaml", ".yml"))
        templates = list_files(self.templates_dir, (".jinja",))
        pause_s = (time.thread_time() - began - _FREE_SCAN_S) / _SCAN_SHARE
        self._next_scan = time.monotonic() + min(max(0.0, pause_s), _LONGEST_UNSEEN_S)
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
    if problems:
        return PersonaEntry(file.id, file.file, None, tuple(problems))
    persona, places, found = build_persona(chain)
    if persona is None:
        return PersonaEntry(file.id, file.file, None, found)
    if persona.template_name not in templates:
        line = _line_of_key(chain, "template")
        missing = Problem(
            *line,
            "There is no prompt template '%(name)s'. There are: %(known)s.",
            {"name": persona.template_name, "known": ", ".join(sorted(templates)) or "–"},
        )
        return PersonaEntry(file.id, file.file, None, (*found, missing))
    reached = reachable(persona.template_name, templates)
    resolved = ResolvedPersona(persona, reached, places, templates_dir)
    return PersonaEntry(file.id, file.file, resolved, found)


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
            return chain, [Problem(*place, "There is no persona '%(id)s' to extend.", {"id": base})]
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


def reachable(name: str, templates: Mapping[str, str]) -> dict[str, str]:
    """A prompt template and those it includes, imports or extends by name."""
    found: dict[str, str] = {}
    pending = [name]
    while pending:
        current = pending.pop().removesuffix(".jinja")
        if current in templates and current not in found:
            found[current] = templates[current]
            pending += _REFERENCE.findall(templates[current])
    return dict(sorted(found.items()))


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
        return decode(source, file=file).removeprefix("\ufeff")
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
        message = "Windows keeps the name '%(name)s' for a device: choose another one."
        return Problem(file, 1, 1, message, {"name": name})
    return Problem(
        file,
        1,
        1,
        "The file name makes no id: use lower-case letters, digits, - and _, 64 at most.",
    )


def _doubled(file: str, other: str) -> Problem:
    return Problem(file, 1, 1, "It has the same id as %(other)s and is left out.", {"other": other})


def _write_new(path: Path, text: str) -> None:
    """Write a file that is not there yet; whoever looks sees it whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{_TEMPORARY}{os.getpid()}-{threading.get_ident()}"
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
        _sync_folder(path.parent)
    except FileExistsError:
        raise ConflictError("There is already a persona '%(id)s'.", id=path.stem) from None
    except OSError as error:
        raise InputError(
            "%(path)s cannot be written: %(reason)s.", path=shown(path), reason=error.strerror
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """A name is only safe from a power cut when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_unfinished(folder: Path) -> None:
    """What a killed process left behind; another one may be writing right now, so only what is old."""
    for path in folder.glob(f"{_TEMPORARY}*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > 60:
                path.unlink()
