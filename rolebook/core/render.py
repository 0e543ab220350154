"""Rendering a prompt template into messages. Runs inside the render worker, one render at a time.

The ``message`` tag appends to the render's own list while the template runs. Text is never parsed
back into messages, so nothing that a value contains can open a role.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import CodeType, MethodType, TracebackType
from typing import Any, NoReturn

from jinja2 import StrictUndefined, nodes
from jinja2.environment import Environment, Template
from jinja2.exceptions import TemplateNotFound, TemplateSyntaxError, UndefinedError
from jinja2.ext import Extension
from jinja2.loaders import BaseLoader
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from rolebook.core.message import MAX_OUTPUT, MESSAGE_ROLES, Origin
from rolebook.core.template_advice import MAKES_HTML, explain
from rolebook.core.traced import (
    Traced,
    TracedSpan,
    joiner,
    relabel,
    trace_computed,
    trace_variable,
    traced,
)

_GLOBALS = ("range", "dict", "cycler", "joiner", "namespace")
#: What a template knows besides its variables, and Jinja's own tags.
_NAMES = ("system", "greeting", "examples", "history", "input", "persona")
_TAGS = (
    "if",
    "for",
    "set",
    "macro",
    "call",
    "filter",
    "include",
    "import",
    "from",
    "extends",
    "block",
    "raw",
)
#: What of a persona is a template.
_TEXTS = ("system", "greeting")
_QUOTED = re.compile(r"'([^']+)'")
_ROLES = ", ".join(role for role in MESSAGE_ROLES if role != "prompt")

#: A rendered message: role and spans. ``None`` stands for the place of the earlier turns.
Entry = tuple[str, tuple[TracedSpan, ...]] | None


class RenderError(Exception):
    """Rendering failed. ``file`` is ``system``, ``greeting`` or a template's name; ``line`` 0 is unknown."""

    def __init__(self, message: str, file: str, line: int, **parameters: Any) -> None:
        super().__init__(message)
        self.message, self.file, self.line, self.parameters = message, file, line, parameters
        self.column = 0
        self.is_limit = False


class TimeIsUp(BaseException):
    """The render has had its time. No template can catch it, as it is no Exception.

    Arguments:
        seconds: the time that it has.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self._seconds = seconds

    def as_error(self, file: str, line: int) -> RenderError:
        """What it means for the place where the render was."""
        message = "The template takes longer than %(seconds)s s: it was stopped here."
        error = RenderError(message, file, line, seconds=f"{self._seconds:g}")
        error.is_limit = True
        return error


class HistoryNeeded(BaseException):
    """The template reads ``history`` as a variable, and it was not sent along. No test of Jinja's takes it for a no."""


class _MessageTags(Extension):
    """``{% message ROLE %}…{% endmessage %}`` and ``{% history %}``, and what they gather in one render."""

    tags = {"message", "history"}  # noqa: RUF012 - the base class declares it so
    entries: list[Entry]

    def start(self, greeting: Traced) -> None:
        """Begin a new render."""
        self.entries = []
        self._greeting = greeting
        self._is_open = False

    def parse(self, parser: Parser) -> nodes.Node:
        token = next(parser.stream)
        line = nodes.Const(token.lineno)
        if getattr(parser, "open_message", False):
            parser.fail(
                f"'{token.value}' inside a message: close it with endmessage first", token.lineno
            )
        if token.value == "history":
            call = self.call_method("history", [line])
            return nodes.ExprStmt(call).set_lineno(token.lineno)
        role = parser.parse_expression()
        if isinstance(role, nodes.Const) and (
            role.value not in MESSAGE_ROLES or role.value == "prompt"
        ):
            parser.fail(f"unknown role '{role.value}': use one of {_ROLES}", token.lineno)
        parser.open_message = True  # type: ignore[attr-defined]
        body = parser.parse_statements(("name:endmessage",), drop_needle=True)
        parser.open_message = False  # type: ignore[attr-defined]
        _drop_newlines_of_tags(body)
        for output in body:
            if isinstance(output, nodes.Output):
                for printed in output.nodes:
                    printed.is_printed_in_message = True  # type: ignore[attr-defined]
        # As if written: open the message, {% set content %}…{% endset %}, close it with that content.
        content = parser.free_identifier()
        block = nodes.AssignBlock(nodes.Name(content.name, "store"), None, body)
        begin = nodes.ExprStmt(self.call_method("open", [line]))
        text = nodes.Name(content.name, "load")
        end = nodes.ExprStmt(self.call_method("close", [role, line, text]))
        return nodes.Scope([begin, block, end]).set_lineno(token.lineno)

    def open(self, line: int) -> None:
        if self._is_open:
            raise TemplateSyntaxError("a tag inside a message", line)
        self._is_open = True

    def close(self, role: object, line: int, content: str) -> None:
        self._is_open = False
        if role not in MESSAGE_ROLES or role == "prompt":
            raise TemplateSyntaxError(f"unknown role '{role}': use one of {_ROLES}", line)
        spans = content.spans if isinstance(content, Traced) else ()
        self.entries.append((str(role), spans))

    def history(self, line: int) -> None:
        if self._is_open:
            raise TemplateSyntaxError("a tag inside a message", line)
        if self._greeting:
            self.entries.append(("assistant", self._greeting.spans))
        self.entries.append(None)


class _NoTags(Extension):
    """Says of a plain prompt that the tags have no place in it."""

    tags = _MessageTags.tags

    def parse(self, parser: Parser) -> nodes.Node:
        parser.fail(
            "a plain prompt (endpoint: completions) has no messages; write its text without this tag",
            next(parser.stream).lineno,
        )


_TAG_CALLS = {_MessageTags.open, _MessageTags.close, _MessageTags.history}


def _drop_newlines_of_tags(body: list[nodes.Node]) -> None:
    """The newline right after the opening tag and the one right before the closing tag are the tags'."""
    first = _edge_text(body, 0)
    if first is not None:
        first.data = first.data.removeprefix("\n")
    last = _edge_text(body, -1)
    if last is not None:
        last.data = last.data.removesuffix("\n")


def _edge_text(body: list[nodes.Node], index: int) -> nodes.TemplateData | None:
    if body and isinstance(body[index], nodes.Output):
        edge = body[index].nodes[index]  # type: ignore[attr-defined]
        return edge if isinstance(edge, nodes.TemplateData) else None
    return None


class _Sources(BaseLoader):
    def __init__(self, sources: Mapping[str, str]) -> None:
        self._sources = sources

    def get_source(self, environment: Any, template: str) -> tuple[str, str, None]:
        for name in (template, template.removesuffix(".jinja")):
            if name in self._sources:
                return self._sources[name], name, None
        raise TemplateNotFound(template)

    def load(self, environment: Any, name: str, globals: Any = None) -> Template:
        """Compiled once for all personas: compiling is most of what the first prompt of each costs."""
        source, filename, _ = self.get_source(environment, name)
        key = (tuple(environment.extensions), filename, source)
        if key not in _codes:
            if len(_codes) > _MOST_CODES:
                _codes.clear()
            _codes[key] = _compiled(environment, source, name, filename)
        code, is_fixed = _codes[key]
        environment.is_fixed = environment.is_fixed and is_fixed
        template: Template = environment.template_class.from_code(environment, code, globals or {})
        return template


#: What templates were compiled to and whether they are fixed, by the tags that they know, their name and their source.
_codes: dict[tuple[tuple[str, ...], str, str], tuple[CodeType, bool]] = {}
_MOST_CODES = 256


def _compiled(
    environment: Environment, source: str, name: str, filename: str
) -> tuple[CodeType, bool]:
    """A template, and whether it is fixed: gives the same for every input, but for the input itself where that is
    printed in a message.
    """
    parsed = environment.parse(source, name, filename)
    for switch in parsed.find_all(nodes.ScopedEvalContextModifier):
        if any(option.value != nodes.Const(False) for option in switch.options):
            raise TemplateSyntaxError(MAKES_HTML, switch.lineno, name, filename)
    code = environment.compile(parsed, name, filename)
    inputs = [name for name in parsed.find_all(nodes.Name) if name.name == "input"]
    is_fixed = (
        "random" not in source
        and not any(_is_made_up(filtered) for filtered in parsed.find_all(nodes.Filter))
        and all(isinstance(statement, _KNOWN) for statement in parsed.find_all(nodes.Stmt))
        and all(hasattr(name, "is_printed_in_message") for name in inputs)
    )
    return code, is_fixed


def _is_made_up(filtered: nodes.Filter) -> bool:
    """Whether a filter maps by another one whose name is no word of the template, and may be any."""
    return filtered.name == "map" and bool(
        filtered.args
        and not (isinstance(filtered.args[0], nodes.Const) and filtered.args[0].value != "random")
    )


#: What brings in no other template, and makes nothing of what is printed in it.
_KNOWN = (
    nodes.Output,
    nodes.Scope,
    nodes.ExprStmt,
    nodes.AssignBlock,
    nodes.Assign,
    nodes.For,
    nodes.If,
)


class _Environment(ImmutableSandboxedEnvironment):
    """A sandbox whose output remembers its origins. Not safe for threads: one render at a time."""

    concat: Callable[[Iterable[str]], Traced]
    is_fixed = True
    """Whether all that was compiled here is."""

    def __init__(self, sources: Mapping[str, str], origin: Origin, *, has_tags: bool) -> None:
        super().__init__(
            loader=_Sources(sources),
            undefined=StrictUndefined,
            keep_trailing_newline=True,
            finalize=trace_computed,
            extensions=[_MessageTags if has_tags else _NoTags],
            cache_size=-1,
        )
        self.concat = joiner(origin)
        self.globals = {name: self.globals[name] for name in _GLOBALS}
        self.filters["tojson"] = _as_json

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        # Where a text came from is no business of a template.
        return attr != "spans" and super().is_safe_attribute(obj, attr, value)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        # The tags call their extension, which needs no check of whether it is safe.
        if type(__obj) is MethodType and __obj.__func__ in _TAG_CALLS:
            return __obj(*args)
        return super().call(__context, __obj, *args, **kwargs)


def _as_json(value: object, indent: int | None = None) -> str:
    """JSON as a model reads it: Jinja's own spells out what HTML or old programs would stumble over."""
    return json.dumps(value, ensure_ascii=False, indent=indent, default=_refuse_json)


def _refuse_json(value: object) -> NoReturn:
    """What JSON has no word for. A name that nothing stands for says the same here as anywhere else."""
    if isinstance(value, StrictUndefined):
        str(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


class Renderer:
    """Renders one persona at one revision.

    Arguments:
        role: what :func:`rolebook.core.prompt.role_data` makes of a persona and its templates.
    """

    def __init__(self, role: Mapping[str, Any]) -> None:
        self._role = role
        sources = role["templates"]
        self._is_plain = role["is_plain"]
        self._environment = _Environment(sources, Origin.TEMPLATE, has_tags=not self._is_plain)
        self._text_environment = _Environment(sources, Origin.SYSTEM, has_tags=False)
        self._texts: dict[str, Template] = {}
        self._examples = [
            {"user": traced(user, Origin.EXAMPLE), "assistant": traced(answer, Origin.EXAMPLE)}
            for user, answer in role["examples"]
        ]

    @property
    def is_fixed(self) -> bool:
        """Whether what was rendered so far would be the same with another input in place of the spans of this one."""
        environments = (self._environment, self._text_environment)
        return not self._is_plain and all(environment.is_fixed for environment in environments)

    def render(self, request: Mapping[str, Any]) -> list[Entry]:
        """The messages of one prompt, in the form in which they leave the worker.

        ``request`` is what :func:`rolebook.core.prompt.build_request` makes. Raises RenderError, HistoryNeeded.
        """
        try:
            return self._render(request)
        except RenderError as error:
            if self._may_lack_history(error, request):
                raise HistoryNeeded from None
            source = self._source_of(error.file)
            self._explain(error, source, request["values"])
            error.line = error.line or int(bool(error.file))
            error.column = self._column_of(error, source)
            raise

    def _may_lack_history(self, error: RenderError, request: Mapping[str, Any]) -> bool:
        """Whether it may have failed only because what stands for the history is no list: filters such as ``tojson``
        take nothing else.
        """
        is_sent = "history" in request or "part" in request
        is_about_text = error.is_limit or error.file in _TEXTS
        sources = self._role["templates"].values()
        return not (is_sent or is_about_text) and any("history" in source for source in sources)

    def _source_of(self, name: str) -> str:
        source: str = self._role[name] if name in _TEXTS else self._role["templates"].get(name, "")
        return source

    def _explain(self, error: RenderError, source: str, variables: Iterable[str]) -> None:
        """Say it in our own words, where we know better ones than Jinja."""
        environment = self._text_environment if error.file in _TEXTS else self._environment
        known = {
            "name": [*variables, *_NAMES],
            "filter": environment.filters,
            "test": environment.tests,
            "tag": [*_TAGS, *_MessageTags.tags],
        }
        reason = error.parameters.get("reason", "")
        advice = explain(reason, source=source, known=known)
        if advice is not None:
            error.message = advice.message
            error.parameters = {"reason": reason, **advice.parameters}
            error.line = advice.line or error.line

    def _column_of(self, error: RenderError, source: str) -> int:
        """Jinja knows lines only: the name that the error is about, else where its line begins."""
        lines = source.splitlines()
        if not 1 <= error.line <= len(lines):
            return 0
        line = lines[error.line - 1]
        quoted = _QUOTED.findall(str(error.parameters.get("reason", "")))
        places = [line.find(name) for name in quoted if name in line]
        return min(places, default=len(line) - len(line.lstrip())) + 1

    def _render(self, request: Mapping[str, Any]) -> list[Entry]:
        values: dict[str, Any] = {
            name: trace_variable(name, value) for name, value in request["values"].items()
        }
        values["persona"] = self._role["persona"]
        values["input"] = traced(request["input"], Origin.INPUT)
        values["examples"] = self._examples
        if part := request.get("part"):
            self._try_part(part, values, is_compiled_only=request["is_compiled_only"])
            return []
        values["greeting"] = relabel(
            self._render_text("greeting", values), Origin.SYSTEM, Origin.GREETING
        )
        values["system"] = self._render_text("system", values)
        values["history"] = _history(request.get("history"))
        if request.get("is_greeting_only"):
            entries: list[Entry] = [("assistant", values["greeting"].spans)]
        else:
            entries = self._render_template(values)
        is_of_text = len(values["system"]) > MAX_OUTPUT
        _check_size(entries, "system" if is_of_text else self._role["template"])
        return entries

    def _try_part(self, name: str, values: dict[str, Any], *, is_compiled_only: bool) -> None:
        """Render a text or the prompt template with stand-ins for the others, or only compile it."""
        if name != "greeting":
            values["greeting"] = traced("", Origin.GREETING)
        if name not in _TEXTS:
            values["system"] = traced("…", Origin.SYSTEM)
            values["history"] = _history([("user", "…"), ("assistant", "…")])
        if not is_compiled_only:
            self._render_text(name, values) if name in _TEXTS else self._render_template(values)
            return
        with _Located(name):
            if name in _TEXTS:
                self._text_template(name)
            else:
                self._environment.get_template(name)

    def _render_text(self, name: str, values: Mapping[str, Any]) -> Traced:
        if not self._role[name]:
            return traced("", Origin.SYSTEM)
        with _Located(name):
            template = self._text_template(name)
            context = template.new_context(dict(values))
            return self._text_environment.concat(template.root_render_func(context))

    def _text_template(self, name: str) -> Template:
        template = self._texts.get(name)
        if template is None:
            environment = self._text_environment
            code, is_fixed = _compiled(environment, self._role[name], name, name)
            environment.is_fixed = environment.is_fixed and is_fixed
            template = Template.from_code(environment, code, environment.globals)
            self._texts[name] = template
        return template

    def _render_template(self, values: dict[str, Any]) -> list[Entry]:
        name = self._role["template"]
        environment = self._environment
        with _Located(name):
            template = environment.get_template(name)
            context = template.new_context(values)
            if self._is_plain:
                return [("prompt", environment.concat(template.root_render_func(context)).spans)]
            tags: Any = environment.extensions[_MessageTags.identifier]
            tags.start(values["greeting"])
            _run(template, context, self._role["templates"].get(name, ""))
            entries: list[Entry] = tags.entries
            return entries


def _line_of(text: str, source: str, after: int) -> int:
    """The line of a text of the template. Jinja keeps the lines of tags only: the last one before it is ``after``."""
    lines = source.splitlines()
    first = text.strip().splitlines()[0]
    return next((n for n in range(max(after, 1), len(lines) + 1) if first in lines[n - 1]), after)


def _run(template: Template, context: Context, source: str) -> None:
    """Run a template for its messages; text that stands in none of them is a mistake."""
    pieces = template.root_render_func(context)
    for piece in pieces:
        if piece.strip():
            frame = getattr(pieces, "gi_frame", None)
            line = template.get_corresponding_lineno(frame.f_lineno) if frame else 0
            line = _line_of(piece, source, line)
            words = " ".join(piece.split())[:40]
            raise RenderError(
                "'%(text)s' stands outside of any message."
                ' Put it between {%% message "…" %%} and {%% endmessage %%}.',
                template.name or "",
                line,
                text=words,
            )


def _history(messages: list[tuple[str, str]] | None) -> Any:
    if messages is None:
        return _UnsentHistory()
    return [
        {"role": role, "content": traced(content, Origin.HISTORY)} for role, content in messages
    ]


class _UnsentHistory:
    """Stands for the history until a template looks at it; most insert it whole and never look."""

    def __iter__(self) -> Iterator[Any]:
        raise HistoryNeeded

    def __len__(self) -> int:
        raise HistoryNeeded

    def __getitem__(self, index: object) -> Any:
        raise HistoryNeeded

    def __str__(self) -> str:
        raise HistoryNeeded

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        raise HistoryNeeded

    def __add__(self, other: object) -> Any:
        raise HistoryNeeded

    __radd__ = __add__
    __hash__ = None  # type: ignore[assignment]


def _check_size(entries: list[Entry], file: str) -> None:
    size = sum(len(span[0]) for entry in entries if entry for span in entry[1])
    if size > MAX_OUTPUT:
        error = RenderError(
            "The prompt has more than %(limit)s characters.", file, 0, limit=f"{MAX_OUTPUT:,}"
        )
        error.is_limit = True
        raise error


class _Located:
    """Turns whatever a template raises into a RenderError with file and line."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None or isinstance(error, RenderError | HistoryNeeded | KeyboardInterrupt):
            return
        raise _render_error(error, self._name, traceback) from None


def _render_error(error: BaseException, name: str, traceback: TracebackType | None) -> RenderError:
    file, line = _place(traceback, name)
    reason = str(error).strip() or type(error).__name__
    if isinstance(error, TimeIsUp):
        return error.as_error(file, line)
    if isinstance(error, MemoryError):
        limit = RenderError("The template needs more memory than it may have.", file, line)
        limit.is_limit = True
        return limit
    if isinstance(error, RecursionError):
        return RenderError("The template calls or includes itself without end.", file, line)
    if isinstance(error, TemplateSyntaxError):
        message = "The template has a mistake: %(reason)s"
        place = error.name or file, error.lineno or line
        return RenderError(message, *place, reason=error.message or reason)
    if isinstance(error, UndefinedError):
        return RenderError("The template fails: %(reason)s", file, line, reason=reason)
    if isinstance(error, TemplateNotFound):
        message = "There is no prompt template '%(name)s' in the templates folder."
        return RenderError(message, file, line, name=reason)
    return RenderError("The template fails: %(reason)s", file, line, reason=reason)


def _place(traceback: TracebackType | None, name: str) -> tuple[str, int]:
    """The innermost line of a template in a traceback."""
    file, line = name, 0
    while traceback is not None:
        template = traceback.tb_frame.f_globals.get("__jinja_template__")
        if template is not None:
            file = template.name or name
            line = template.get_corresponding_lineno(traceback.tb_lineno)
        traceback = traceback.tb_next
    return file, line
