"""Which personas the gallery shows: search, filters, pages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from rolebook.core.errors import Problem
from rolebook.core.frozen import frozen
from rolebook.library.file_library import FileLibrary, PersonaEntry

PAGE = 60

#: A tag as the reader sees it.
Translate = Callable[[str], str]


@frozen
class Query:
    """What is looked for; empty is anything. ``page`` counts from 1."""

    text: str = ""
    tag: str = ""
    language: str = ""
    page: int = 1

    def admits(self, entry: PersonaEntry, translate: Translate) -> bool:
        """Whether a persona is among those looked for."""
        if entry.resolved is None:
            return False
        persona = entry.resolved.persona
        return (
            (not self.tag or self.tag in persona.tags)
            and (not self.language or self.language == persona.language)
            and (not self.text or _has_words(entry, self.text, translate))
        )


def query_of(fields: Mapping[str, str]) -> Query:
    """A query as the address of the page has it."""
    page = fields.get("page", "")
    return Query(
        text=fields.get("q", "").strip(),
        tag=fields.get("tag", ""),
        language=fields.get("language", ""),
        page=max(1, int(page)) if page.isascii() and page.isdigit() and len(page) < 6 else 1,
    )


@frozen
class Gallery:
    """One page of it. ``tags`` and ``languages`` are those of all personas, the most frequent first."""

    query: Query
    entries: Sequence[PersonaEntry]
    found: int
    total: int
    tags: Sequence[str]
    languages: Sequence[str]
    broken: Sequence[PersonaEntry]
    problems: Sequence[Problem]

    @property
    def has_more(self) -> bool:
        """Whether there is another page."""
        return self.query.page * PAGE < self.found


def find(library: FileLibrary, query: Query, *, language: str, translate: Translate) -> Gallery:
    """The page of the gallery that a query asks for.

    Arguments:
        language: the reader's; personas who speak it come first.
        translate: gives tags as the reader sees them, so that they can be searched for.
    """
    entries = library.entries()
    usable = [entry.resolved.persona for entry in entries if entry.resolved]
    found = sorted(
        (entry for entry in entries if query.admits(entry, translate)),
        key=lambda entry: _rank(entry, query.text, language),
    )
    broken = [entry for entry in entries if entry.errors]
    told = {str(problem) for entry in broken for problem in entry.problems}
    return Gallery(
        query=query,
        entries=found[(query.page - 1) * PAGE : query.page * PAGE],
        found=len(found),
        total=len(usable),
        tags=_by_frequency(tag for persona in usable for tag in persona.tags),
        languages=_by_frequency(persona.language for persona in usable if persona.language),
        broken=broken,
        problems=[
            problem
            for problem in library.problems()
            if problem.severity == "error" and str(problem) not in told
        ],
    )


def _by_frequency(words: Iterable[str]) -> list[str]:
    return sorted((counted := Counter(words)), key=lambda word: (-counted[word], word))


def _rank(entry: PersonaEntry, text: str, language: str) -> tuple[bool, bool, bool, str]:
    """Who is called just so comes first, as Enter opens the first one; then whose name has it in it."""
    assert entry.resolved is not None
    persona = entry.resolved.persona
    name, wanted = persona.name.casefold(), text.casefold()
    is_called = wanted in (name, entry.id.casefold())
    is_named = bool(wanted) and wanted in name
    return not is_called, not is_named, persona.language != language, name


def _has_words(entry: PersonaEntry, text: str, translate: Translate) -> bool:
    assert entry.resolved is not None
    persona = entry.resolved.persona
    tags = [*persona.tags, *map(translate, persona.tags)]
    words = " ".join([entry.id, persona.name, persona.description, *tags]).casefold()
    return all(word in words for word in text.casefold().split())
