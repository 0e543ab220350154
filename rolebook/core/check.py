"""A check says of one answer whether it is as it should be: by rules, or as a rubric by a model that judges."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from rolebook.core.errors import Phrase
from rolebook.core.fields import (
    RECORDED,
    Boolean,
    Line,
    Part,
    Text,
    Texts,
    flaw,
    integer,
    misfit,
    misfit_choice,
    number,
    parse_boolean,
    parse_line,
    quote,
)
from rolebook.core.frozen import frozen
from rolebook.core.json_schema import check_schema, find_misfit, parse_json
from rolebook.core.text import (
    LANGUAGES,
    compile_regex,
    count_characters,
    count_questions,
    count_words,
    has_match,
    language_of,
    similarity,
)

_MOST = 10_000_000
_LONGEST_LABEL = 60
#: Why answers end by the words of the OpenAI API.
FINISH_REASONS = ("stop", "length", "content_filter", "tool_calls", "function_call")
#: How alike a word is to one of these that was meant to be it: `tool_use` and `stop_sequence` are words of others.
_MISSPELT = 0.7
#: Where a code block begins that the answer wraps its JSON in; some say a sentence before it.
_FENCE_WITHIN = 1000
#: What may stand in a check beside its kind.
_EXTRAS = ("name", "ignore_case", "live")


def _needles(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Every text contains an empty one, so that one would check nothing."""
    if not texts or "" in texts:
        raise flaw("%(key)s must be a text or several, and none of them empty.")
    return texts


def _regex(value: object) -> str:
    try:
        compile_regex(source := parse_line(value))
    except ValueError as error:
        raise flaw("%(key)s is no regular expression: %(reason)s.", reason=str(error)) from None
    return source


def _json_rule(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, Mapping):
        if isinstance(value, list) or not parse_boolean(value):
            raise misfit(Phrase("true or a JSON Schema"), value)
        return True
    try:
        check_schema(value, is_new=info.context != RECORDED)
    except (ValueError, TypeError, RecursionError) as error:
        raise flaw(
            "%(key)s cannot be used as a JSON Schema: %(reason)s.", reason=str(error)
        ) from None
    return dict(value)


def _language(value: object) -> object:
    if value not in LANGUAGES:
        raise misfit_choice(value, list(LANGUAGES))
    return value


def _finish(value: object) -> str:
    """A server may have reasons of its own; what is nearly one of the usual is misspelt."""
    reason = parse_line(value)
    near = difflib.get_close_matches(reason.lower(), FINISH_REASONS, n=1, cutoff=_MISSPELT)
    if near and reason not in FINISH_REASONS:
        raise misfit_choice(value, FINISH_REASONS)
    return reason


Needles = Annotated[Texts, AfterValidator(_needles)]
Regex = Annotated[str, BeforeValidator(_regex)]
Language = Annotated[str, BeforeValidator(_language), WithJsonSchema({"enum": list(LANGUAGES)})]
JsonRule = Annotated[
    Any,
    BeforeValidator(_json_rule),
    WithJsonSchema({"anyOf": [{"type": "boolean", "const": True}, {"type": "object"}]}),
]
FinishReason = Annotated[Line, AfterValidator(_finish)]
Count = integer(0, _MOST)


class _StrictPart(Part):
    """A mapping in which an unknown key is an error: left out, it would change what is checked."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, value: object) -> object:
        if isinstance(value, Mapping):
            for key, given in value.items():
                if key not in cls.model_fields:
                    raise _unknown_key(str(key), given, tuple(cls.model_fields))
        return value


def _unknown_key(key: str, value: object, known: Sequence[str]) -> ValidationError:
    """An error at the place of the key."""
    near = difflib.get_close_matches(key, known, n=1)
    if value is None and " " in key:
        # {rubric: Asks one question, at most} is a map of 'rubric' and 'at most'.
        error = flaw(
            "A comma cut the text before '%(name)s'. Put the whole text in quotes.", name=key
        )
    elif near:
        error = flaw(
            "'%(key)s' is nothing that can be checked. Did you mean '%(near)s'?", near=near[0]
        )
    else:
        error = flaw(
            "'%(key)s' is nothing that can be checked. There is: %(known)s.", known=", ".join(known)
        )
    return ValidationError.from_exception_data(
        "check", [{"type": error, "loc": (key,), "input": value}]
    )


class Similarity(_StrictPart):
    """How alike the answer must be to another text."""

    to: Text = ""
    """The other text; left out, the reference of the input."""
    at_least: number(0, 1)  # type: ignore[valid-type]
    """0 has no word in common, 1 has the same words in the same order (the F1 of ROUGE-L)."""


class Check(_StrictPart):
    """What an answer must be. Exactly one kind of check stands in each."""

    model_config = ConfigDict(json_schema_extra=lambda schema: schema.update(_one_kind()))

    name: Text = ""
    """What it is called; left out, the check itself."""
    contains: Needles | None = None
    """A text that stands in the answer, or several that all do."""
    contains_any: Needles | None = None
    """Texts of which at least one stands in the answer."""
    not_contains: Needles | None = None
    """A text that does not stand in the answer, or several of which none does."""
    ignore_case: Boolean = False
    """For these three: whether capital and small letters are the same."""
    equals: Text | None = None
    """The whole answer, white space around it left out."""
    regex: Regex | None = None
    """A regular expression that matches somewhere in the answer."""
    not_regex: Regex | None = None
    """A regular expression that matches nowhere in the answer."""
    min_words: Count | None = None  # type: ignore[valid-type]
    """The least number of words; a Chinese or Japanese character is one."""
    max_words: Count | None = None  # type: ignore[valid-type]
    """The greatest number of words."""
    min_characters: Count | None = None  # type: ignore[valid-type]
    """The least number of characters, white space left out."""
    max_characters: Count | None = None  # type: ignore[valid-type]
    """The greatest number of characters."""
    min_questions: Count | None = None  # type: ignore[valid-type]
    """The least number of sentences that end in a question mark."""
    max_questions: Count | None = None  # type: ignore[valid-type]
    """The greatest number of them."""
    is_json: JsonRule | None = None
    """`true`: the answer is JSON and nothing else; or the JSON Schema that it follows."""
    language: Language | None = None
    """The language of the answer, such as `en` or `zh`."""
    similarity: Similarity | None = None
    """How alike the answer is to another text."""
    max_cost: number(0, 100_000) | None = None  # type: ignore[valid-type]
    """What the answer may cost, in US dollars."""
    max_seconds: number(0, 100_000) | None = None  # type: ignore[valid-type]
    """How long the answer may take."""
    finish_reason: FinishReason | None = None
    """Why the answer ends: `stop`, `length` where it is cut off, `content_filter`, `tool_calls`."""
    rubric: Line | None = None
    """What the answer must do, in words. A model judges it."""
    live: Boolean = True
    """For a rubric: whether it is judged in a chat too, and not only in comparisons."""

    @model_validator(mode="after")
    def _check(self) -> Check:
        kinds = [kind for kind in _KINDS if getattr(self, kind) is not None]
        if not kinds:
            raise flaw("%(key)s needs one of %(kinds)s.", kinds=", ".join(_KINDS))
        if len(kinds) > 1:
            raise flaw(
                "%(key)s is two checks in one, '%(first)s' and '%(second)s': write two.",
                first=kinds[0],
                second=kinds[1],
            )
        if self.ignore_case and "contains" not in kinds[0]:
            raise flaw("%(key)s: ignore_case belongs to contains, contains_any and not_contains.")
        if not (self.live or self.is_rubric):
            raise flaw("%(key)s: live belongs to rubric.")
        return self

    @cached_property
    def kind(self) -> str:
        """What kind of check it is: the key that is set."""
        return next(kind for kind in _KINDS if getattr(self, kind) is not None)

    @cached_property
    def digest(self) -> str:
        """A hash of what it demands, whatever it is called."""
        data = {
            name: value for name, value in self.as_data().items() if name not in ("name", "live")
        }
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]

    def result(
        self, has_passed: bool | None, said: Phrase, value: float | str | None = None
    ) -> CheckResult:
        """What it has found in an answer."""
        return CheckResult(self.label, has_passed, said, value, self.digest)

    @property
    def wanted(self) -> Any:
        """What stands behind that key."""
        return getattr(self, self.kind)

    @property
    def is_rubric(self) -> bool:
        """Whether a model judges it."""
        return self.rubric is not None

    @cached_property
    def label(self) -> str:
        """What tells it from the others: its name, else like ``max_words: 80``, in one line."""
        line = " ".join((self.name or f"{self.kind}: {self.wanted_text()}").split())
        return line if len(line) <= _LONGEST_LABEL else line[: _LONGEST_LABEL - 1] + "…"

    def wanted_text(self) -> str:
        """What it asks for, as text."""
        wanted = self.wanted
        if isinstance(wanted, Similarity):
            return f"{wanted.at_least:g} {wanted.to and f'to {wanted.to}'}"
        if isinstance(wanted, tuple):
            return ", ".join(wanted)
        return wanted if isinstance(wanted, str) else json.dumps(wanted, ensure_ascii=False)

    def as_data(self) -> dict[str, Any]:
        """What a file would say: text, numbers, lists and maps."""
        return self.model_dump(mode="json", exclude_defaults=True)


_KINDS = tuple(name for name in Check.model_fields if name not in _EXTRAS)


def _one_kind() -> dict[str, Any]:
    return {"oneOf": [{"required": [kind]} for kind in _KINDS]}


def _distinct(checks: tuple[Check, ...]) -> tuple[Check, ...]:
    """The log knows results by their label."""
    labels: set[str] = set()
    for check in checks:
        if check.label in labels:
            raise flaw(
                "%(key)s: two checks are called '%(label)s': give one of them another name.",
                label=check.label,
            )
        labels.add(check.label)
    return checks


#: The field ``checks`` of a persona and of a comparison.
Checks = Annotated[tuple[Check, ...], AfterValidator(_distinct)]


@frozen
class Answer:
    """What checks look at. ``cost`` is in US dollars; ``None`` is what is not known.

    ``reference`` is the answer that the input names as a good one, if it does.
    """

    text: str
    finish_reason: str | None = None
    cost: float | None = None
    duration_ms: float | None = None
    reference: str = ""


@frozen
class CheckResult:
    """What a check found. ``has_passed`` is ``None`` where it could not be told, and ``said`` says why.

    ``value`` is what was measured, if anything was. ``digest`` tells it from the result of another check that goes by
    the same label.
    """

    label: str
    has_passed: bool | None
    said: Phrase
    value: float | str | None = None
    digest: str = ""


#: Passed or not, in words, and what was measured.
_Finding = tuple[bool | None, Phrase, float | str | None]
_Rule = Callable[[Check, Answer], _Finding]


def run_check(check: Check, answer: Answer) -> CheckResult:
    """What a check finds in an answer, within about a second whatever they are. Never raises.

    A rubric is not judged here: it could not be told. Nor can it of an answer without text whether it keeps to what
    only forbids something: that it says nothing is no merit.
    """
    if check.kind in _FORBIDDING and not answer.text.strip():
        return check.result(None, Phrase("The answer has no text, so it could not break this."))
    return check.result(*_RULES[check.kind](check, answer))


def _contains(check: Check, answer: Answer) -> _Finding:
    missing = [text for text in check.wanted if not _has(check, answer, text)]
    if missing:
        return (
            False,
            Phrase("The answer does not contain %(texts)s.", {"texts": _list(missing)}),
            None,
        )
    return True, Phrase("The answer contains all that it must."), None


def _contains_any(check: Check, answer: Answer) -> _Finding:
    found = [text for text in check.wanted if _has(check, answer, text)]
    if not found:
        texts = _list(check.wanted)
        return False, Phrase("The answer contains none of %(texts)s.", {"texts": texts}), None
    return True, Phrase("The answer contains %(texts)s.", {"texts": _list(found)}), None


def _not_contains(check: Check, answer: Answer) -> _Finding:
    found = [text for text in check.wanted if _has(check, answer, text)]
    if found:
        return False, Phrase("The answer contains %(texts)s.", {"texts": _list(found)}), None
    return True, Phrase("The answer contains nothing that it must not."), None


def _has(check: Check, answer: Answer, text: str) -> bool:
    if check.ignore_case:
        return text.casefold() in answer.text.casefold()
    return text in answer.text


def _list(texts: Sequence[str]) -> str:
    return ", ".join(str(quote(text)) for text in texts)


def _equals(check: Check, answer: Answer) -> _Finding:
    if answer.text.strip() == check.wanted.strip():
        return True, Phrase("The answer is word for word what it must be."), None
    return False, Phrase("The answer is not word for word what it must be."), None


def _regex_rule(check: Check, answer: Answer) -> _Finding:
    try:
        is_found = has_match(check.wanted, answer.text)
    except TimeoutError:
        return (
            None,
            Phrase(
                "The regular expression took too long: it tries too many ways to match. Make it simpler."
            ),
            None,
        )
    said = (
        Phrase("The regular expression matches.")
        if is_found
        else Phrase("The regular expression matches nowhere.")
    )
    return is_found == (check.kind == "regex"), said, None


def _count_rule(count: Callable[[str], int], least: Phrase, most: Phrase) -> _Rule:
    """The rule for what can be counted; one sentence for a lower limit, one for an upper."""

    def rule(check: Check, answer: Answer) -> _Finding:
        found, limit = count(answer.text), check.wanted
        is_lower = check.kind.startswith("min_")
        said = Phrase((least if is_lower else most).message, {"count": found, "limit": limit})
        return found >= limit if is_lower else found <= limit, said, found

    return rule


def _is_json(check: Check, answer: Answer) -> _Finding:
    try:
        value = parse_json(answer.text)
    except json.JSONDecodeError as error:
        return False, _explain_no_json(answer.text, error), None
    except RecursionError:
        return None, Phrase("The JSON is nested too deeply to be read."), None
    if check.wanted is True:
        return True, Phrase("The answer is JSON."), None
    return _follows_schema(check.wanted, value)


def _explain_no_json(text: str, error: json.JSONDecodeError) -> Phrase:
    if "```" in text[:_FENCE_WITHIN] or "~~~" in text[:_FENCE_WITHIN]:
        return Phrase(
            "The JSON stands in a code block. The answer must be JSON alone: ask for no code block."
        )
    return Phrase(
        "The answer is no JSON: it goes wrong in line %(line)d, column %(column)d.",
        {"line": error.lineno, "column": error.colno},
    )


def _follows_schema(schema: Mapping[str, Any], value: object) -> _Finding:
    try:
        found = find_misfit(schema, value)
    except TimeoutError:
        return None, Phrase("Comparing the JSON with its schema took too long."), None
    except RecursionError:
        return None, Phrase("The JSON Schema goes round in circles, or the JSON is too deep."), None
    if found is None:
        return True, Phrase("The answer is JSON that follows its schema."), None
    parameters = {"place": found.place, "reason": found.reason}
    said = Phrase("The JSON does not follow its schema at %(place)s: %(reason)s.", parameters)
    return False, said, found.place


def _language_rule(check: Check, answer: Answer) -> _Finding:
    found = language_of(answer.text)
    if not found:
        return None, Phrase("The language of the answer cannot be told."), None
    parameters = {"found": found, "wanted": check.wanted}
    if found == check.wanted:
        return True, Phrase("The language of the answer is %(found)s.", parameters), found
    said = Phrase(
        "The language of the answer is %(found)s, and it should be %(wanted)s.", parameters
    )
    return False, said, found


def _similarity(check: Check, answer: Answer) -> _Finding:
    other = check.wanted.to or answer.reference
    if not other:
        return None, Phrase("There is no text to compare with: the input has no reference."), None
    found = round(similarity(answer.text, other), 3)
    parameters = {"found": found, "limit": check.wanted.at_least}
    said = Phrase("The similarity is %(found)g; at least %(limit)g is wanted.", parameters)
    return found >= check.wanted.at_least, said, found


def _max_cost(check: Check, answer: Answer) -> _Finding:
    if answer.cost is None:
        return None, Phrase("What the answer cost is not known."), None
    parameters = {"cost": answer.cost, "limit": check.wanted}
    said = Phrase("The answer cost %(cost)g US dollars; at most %(limit)g is allowed.", parameters)
    return answer.cost <= check.wanted, said, answer.cost


def _max_seconds(check: Check, answer: Answer) -> _Finding:
    if answer.duration_ms is None:
        return None, Phrase("How long the answer took is not known."), None
    seconds = answer.duration_ms / 1000
    parameters = {"seconds": seconds, "limit": check.wanted}
    said = Phrase(
        "The answer took %(seconds).2f seconds; at most %(limit)g is allowed.", parameters
    )
    return seconds <= check.wanted, said, seconds


def _finish_reason(check: Check, answer: Answer) -> _Finding:
    if not answer.finish_reason:
        return None, Phrase("Why the answer ended is not known."), None
    parameters = {"found": answer.finish_reason, "wanted": check.wanted}
    if answer.finish_reason == check.wanted:
        return True, Phrase("The answer ended with '%(found)s'.", parameters), answer.finish_reason
    said = Phrase("The answer ended with '%(found)s', and it should with '%(wanted)s'.", parameters)
    return False, said, answer.finish_reason


def _rubric(check: Check, answer: Answer) -> _Finding:
    return None, Phrase("A model has to judge this."), None


_WORDS = _count_rule(
    count_words,
    Phrase("The number of words is %(count)d; at least %(limit)d is wanted."),
    Phrase("The number of words is %(count)d; at most %(limit)d is allowed."),
)
_CHARACTERS = _count_rule(
    count_characters,
    Phrase("The number of characters is %(count)d; at least %(limit)d is wanted."),
    Phrase("The number of characters is %(count)d; at most %(limit)d is allowed."),
)
_QUESTIONS = _count_rule(
    count_questions,
    Phrase("The number of questions is %(count)d; at least %(limit)d is wanted."),
    Phrase("The number of questions is %(count)d; at most %(limit)d is allowed."),
)
#: Silence keeps all of these.
_FORBIDDING = {"not_contains", "not_regex", "max_words", "max_characters", "max_questions"}
_RULES: Mapping[str, _Rule] = {
    "contains": _contains,
    "contains_any": _contains_any,
    "not_contains": _not_contains,
    "equals": _equals,
    "regex": _regex_rule,
    "not_regex": _regex_rule,
    "min_words": _WORDS,
    "max_words": _WORDS,
    "min_characters": _CHARACTERS,
    "max_characters": _CHARACTERS,
    "min_questions": _QUESTIONS,
    "max_questions": _QUESTIONS,
    "is_json": _is_json,
    "language": _language_rule,
    "similarity": _similarity,
    "max_cost": _max_cost,
    "max_seconds": _max_seconds,
    "finish_reason": _finish_reason,
    "rubric": _rubric,
}
