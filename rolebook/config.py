"""Settings: one table of names, defaults and help, and the upstreams.

Flags win over the environment, the environment over ``.env``, and that over ``rolebook.yaml``.
"""

from __future__ import annotations

import ipaddress
import locale
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from rolebook.core.errors import Phrase, SettingError
from rolebook.core.frozen import frozen
from rolebook.core.upstream import Fallback, Key, Timeouts, UpstreamSettings

OPENAI_BASE_URL = "https://api.openai.com/v1"
OPENAI_MODEL = "gpt-4o-mini"
REHEARSAL = "rehearsal"
PLAYBACK_URL = "http://playback.invalid/v1"
"""The address of an upstream that is played back: nowhere, by its reserved name (RFC 6761)."""
LANGUAGES = ("en", "zh")
LOG_FORMATS = ("text", "json")
LOGIN = ("auto", "always", "never")
_HOST_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:]+\]")


class Setting(NamedTuple):
    """One setting. Its environment variable is ``ROLEBOOK_`` and the name in capitals."""

    name: str
    default: str
    help: str

    @property
    def variable(self) -> str:
        return f"ROLEBOOK_{self.name.upper()}"


SETTINGS = (
    Setting("personas", "personas", "Folder of the persona files."),
    Setting("templates", "templates", "Folder of the prompt templates."),
    Setting("database", "data/rolebook.db", "The file that every session is logged to."),
    Setting("config", "rolebook.yaml", "File with upstreams, prices and any of these settings."),
    Setting("upstream", "", "The upstream for personas that name none."),
    Setting("model", "", "The model for personas that name none; else the upstream's default."),
    Setting("judge", "judge", "The persona that judges answers where a check is a rubric."),
    Setting("host", "127.0.0.1", "Address that the pages are served on."),
    Setting("port", "8000", "Port that the pages are served on; 0 takes a free one."),
    Setting(
        "login",
        "auto",
        "Whether people log in: auto (as soon as there is a user), always, or never.",
    ),
    Setting(
        "host_names",
        "",
        "Host names that it answers to besides its address, separated by commas.",
    ),
    Setting(
        "proxies", "0", "Reverse proxies in front of it whose X-Forwarded headers are believed."
    ),
    Setting(
        "threads",
        "256",
        "Threads that may work at the same time; those that wait for an upstream or a client do not count.",
    ),
    Setting(
        "gateway_processes",
        "0",
        "Further processes that answer /v1, so that it can use more cores; 0: none. Linux only.",
    ),
    Setting("language", "", "en or zh; else as the browser or the terminal asks."),
    Setting("log_format", "text", "text: warnings only; json: a line for every request and turn."),
    Setting("connect_timeout", "5", "Seconds to connect to an upstream."),
    Setting(
        "first_byte_timeout",
        "60",
        "Seconds until an upstream begins to answer; without a stream, until all of it is there.",
    ),
    Setting("idle_timeout", "30", "Seconds that a running answer may pause."),
    Setting("total_timeout", "300", "Seconds that one answer may take in all."),
)

#: Names that other programs use as well, read under exactly these names.
FOREIGN_VARIABLES = (
    ("OPENAI_API_KEY", "Key for the upstream; several are separated by commas."),
    ("OPENAI_API_KEY_FILE", "File that holds the key, one a line."),
    ("OPENAI_BASE_URL", "Address of any OpenAI-compatible server; default: OpenAI."),
    ("OPENAI_ORG_ID", "Organization that calls are billed to."),
    ("OPENAI_PROJECT_ID", "Project that calls are billed to."),
    ("HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY", "Proxies, http:// or socks5://."),
    (
        "SSL_CERT_FILE",
        "Certificates to trust instead of those of the system; only from the environment itself, not from .env.",
    ),
)

_EMPTY_KEY = "OPENAI_API_KEY is set but empty, so rehearsal answers. Put a key in it, or remove it."

#: Where a place in the settings file is, for messages: path to ``rolebook.yaml:3:5``.
Locate = Callable[[Sequence[str | int]], str]


@frozen
class Settings:
    """Everything that can be set. ``notices`` are things worth telling, each a message and its parameters."""

    personas: Path
    templates: Path
    database: Path
    upstream: str
    model: str
    judge: str
    host: str
    port: int
    login: str
    host_names: str
    proxies: int
    threads: int
    gateway_processes: int
    language: str
    log_format: str
    upstreams: Mapping[str, UpstreamSettings] = field(default_factory=dict)
    missing_keys: Mapping[str, str] = field(default_factory=dict)
    """Upstreams whose key is named but not there, with the name of the key."""
    prices: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    notices: tuple[tuple[str, Mapping[str, Any]], ...] = ()

    @property
    def is_rehearsal(self) -> bool:
        """Whether nothing but rehearsal answers by default."""
        return self.upstream == REHEARSAL

    @property
    def exposure(self) -> str:
        """The setting by which others than this computer reach the pages, with its value; empty if none lets them."""
        if not is_loopback(self.host):
            return f"host {self.host}"
        if self.proxies:
            return f"proxies {self.proxies}"
        names = [name for name in self.host_names.split(",") if name and not is_loopback(name)]
        return f"host_names {','.join(names)}" if names else ""


def load_settings(
    *,
    flags: Mapping[str, str],
    environment: Mapping[str, str],
    file: Mapping[str, Any],
    locate: Locate,
) -> Settings:
    """The settings from their three sources. Raises SettingError naming what is wrong and where.

    Arguments:
        flags: settings given on the command line, by name.
        environment: environment variables, ``.env`` merged in.
        file: the content of ``rolebook.yaml``.
        locate: says where in that file a path stands.
    """
    _check_keys(file, {setting.name for setting in SETTINGS} | {"upstreams", "prices"}, (), locate)
    values = {setting.name: _value(setting, flags, environment, file) for setting in SETTINGS}
    timeouts = Timeouts(
        connect_s=_seconds(values, "connect_timeout"),
        first_byte_s=_seconds(values, "first_byte_timeout"),
        idle_s=_seconds(values, "idle_timeout"),
        total_s=_seconds(values, "total_timeout"),
    )
    keys = _KeyReader(environment)
    upstreams = dict(_upstreams_of_file(file, timeouts, keys, locate))
    if "openai" not in upstreams and _is_openai_set(environment):
        upstream = _upstream_of_environment(environment, timeouts, keys)
        upstreams.setdefault(upstream.name, upstream)
    _check_fallbacks(upstreams, locate)
    default = _default_upstream(values["upstream"], upstreams)
    if default == REHEARSAL and environment.get("OPENAI_API_KEY", "-").strip() == "":
        keys.notices.append((_EMPTY_KEY, {}))
    language = values["language"]
    if language not in ("", *LANGUAGES):
        raise SettingError("language must be en or zh, got '%(got)s'.", got=language)
    if values["log_format"] not in LOG_FORMATS:
        raise SettingError(
            "log_format must be text or json, got '%(got)s'.", got=values["log_format"]
        )
    if values["login"] not in LOGIN:
        raise SettingError(
            "login must be one of %(known)s, got '%(got)s'.",
            known=", ".join(LOGIN),
            got=values["login"],
        )
    return Settings(
        personas=Path(values["personas"]),
        templates=Path(values["templates"]),
        database=Path(values["database"]),
        upstream=default,
        model=values["model"],
        judge=values["judge"],
        host=values["host"],
        port=_whole(values, "port", 0, 65535),
        login=values["login"],
        host_names=_host_names(values["host_names"]),
        proxies=_whole(values, "proxies", 0, 9),
        threads=_whole(values, "threads", 4, 4096),
        gateway_processes=_whole(values, "gateway_processes", 0, 64),
        language=language,
        log_format=values["log_format"],
        upstreams=upstreams,
        missing_keys=keys.missing,
        prices=_prices(file.get("prices") or {}, locate),
        notices=tuple(keys.notices),
    )


def is_loopback(host: str) -> bool:
    """Whether only this computer reaches the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host_names(text: str) -> str:
    """Names as a browser sends them: in lower case, without port, and nothing that stands for several."""
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    for name in names:
        if not _HOST_NAME.fullmatch(name):
            raise SettingError(
                "host_names must be names such as roles.example.com, separated by commas; got '%(got)s'.",
                got=name,
            )
    return ",".join(names)


def language_of_terminal(environment: Mapping[str, str]) -> str:
    """``zh`` where the terminal asks for Chinese, otherwise ``en``."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if environment.get(name):
            return "zh" if locale.normalize(environment[name]).startswith("zh") else "en"
    return "en"


def _value(
    setting: Setting,
    flags: Mapping[str, str],
    environment: Mapping[str, str],
    file: Mapping[str, Any],
) -> str:
    for given in (
        flags.get(setting.name),
        environment.get(setting.variable),
        file.get(setting.name),
    ):
        if given not in (None, ""):
            return str(given)
    return setting.default


def _seconds(values: Mapping[str, str], name: str) -> float:
    try:
        seconds = float(values[name])
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 86_400:
        raise SettingError(
            "%(name)s must be a number of seconds above 0, got '%(got)s'.",
            name=name,
            got=values[name],
        )
    return seconds


def _whole(values: Mapping[str, str], name: str, low: int, high: int) -> int:
    text = values[name]
    if not (text.isascii() and text.isdigit() and low <= int(text[:9]) <= high):
        raise SettingError(
            "%(name)s must be a whole number from %(low)s to %(high)s, got '%(got)s'.",
            name=name,
            low=low,
            high=high,
            got=text,
        )
    return int(text)


class _KeyReader:
    """Reads keys from where the settings say they are, and remembers which were not there.

    A key that is not there is no reason not to start: who never calls that upstream needs none.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.missing: dict[str, str] = {}
        self.notices: list[tuple[str, Mapping[str, Any]]] = []
        self.proxies = {
            name.lower().removesuffix("_proxy"): value
            for name, value in environment.items()
            if name.lower().endswith("_proxy") and value
        }

    def of_variable(self, name: str) -> tuple[Key, ...]:
        values = (part.strip() for part in self._environment.get(name, "").split(","))
        return tuple(Key(value, name) for value in values if value)

    def of_file(self, path: str) -> tuple[Key, ...]:
        try:
            lines = Path(path).expanduser().read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or Phrase("it is not UTF-8")
            message = "The key file %(path)s cannot be read: %(reason)s."
            self.notices.append((message, {"path": path, "reason": reason}))
            return ()
        return tuple(Key(line.strip(), path) for line in lines if line.strip())

    def of_reference(self, reference: str, place: str) -> tuple[Key, ...]:
        scheme, _, rest = reference.partition(":")
        if scheme == "env" and rest:
            return self.of_variable(rest)
        if scheme == "file" and rest:
            return self.of_file(rest)
        raise SettingError(
            "%(place)s: a key is never written here. Write env:NAME or file:PATH, where it can be read.",
            place=place,
        )


def _is_openai_set(environment: Mapping[str, str]) -> bool:
    names = ("OPENAI_API_KEY", "OPENAI_API_KEY_FILE", "OPENAI_BASE_URL")
    return any(environment.get(name, "").strip() for name in names)


def _upstream_of_environment(
    environment: Mapping[str, str], timeouts: Timeouts, keys: _KeyReader
) -> UpstreamSettings:
    file = environment.get("OPENAI_API_KEY_FILE", "")
    found = keys.of_variable("OPENAI_API_KEY") or (keys.of_file(file) if file else ())
    base_url = _checked_url(
        environment.get("OPENAI_BASE_URL", "").strip() or OPENAI_BASE_URL, "OPENAI_BASE_URL"
    )
    if not found and base_url == OPENAI_BASE_URL:
        keys.missing["openai"] = file or "OPENAI_API_KEY"
    return UpstreamSettings(
        name=_name_of(base_url),
        base_url=base_url,
        keys=found,
        organization=environment.get("OPENAI_ORG_ID", ""),
        project=environment.get("OPENAI_PROJECT_ID", ""),
        model=OPENAI_MODEL if base_url == OPENAI_BASE_URL else "",
        timeouts=timeouts,
        environment_proxies=keys.proxies,
    )


def _name_of(base_url: str) -> str:
    """What an upstream without a name of its own is called: ``openai``, or the host and port of whoever else it is."""
    place = urlsplit(base_url).netloc.lower()
    is_openai = place == "api.openai.com" or place.endswith(".api.openai.com")
    return "openai" if is_openai else place


_UPSTREAM_KEYS = {
    "base_url",
    "keys",
    "organization",
    "project",
    "proxy",
    "model",
    "timeouts",
    "attempts",
    "concurrency",
    "fallbacks",
    "record",
    "playback",
    "playback_timed",
}


def _upstreams_of_file(
    file: Mapping[str, Any], timeouts: Timeouts, keys: _KeyReader, locate: Locate
) -> Iterator[tuple[str, UpstreamSettings]]:
    for name, given in _mapping(file.get("upstreams"), ("upstreams",), locate).items():
        path = ("upstreams", name)
        if name == REHEARSAL:
            raise SettingError(
                "%(place)s: 'rehearsal' is built in; give the upstream another name.",
                place=locate(path),
            )
        part = _mapping(given, path, locate)
        _check_keys(part, _UPSTREAM_KEYS, path, locate)
        yield name, _upstream_of_file(name, part, timeouts, keys, locate)


def _upstream_of_file(
    name: str, part: Mapping[str, Any], timeouts: Timeouts, keys: _KeyReader, locate: Locate
) -> UpstreamSettings:
    path = ("upstreams", name)
    record, playback = str(part.get("record") or ""), str(part.get("playback") or "")
    if record and playback:
        raise SettingError(
            "%(place)s: an upstream is either recorded or played back. Leave out record or playback.",
            place=locate((*path, "playback")),
        )
    base_url = PLAYBACK_URL if playback else str(part.get("base_url") or OPENAI_BASE_URL)
    references = part.get("keys") or ([] if "base_url" in part else ["env:OPENAI_API_KEY"])
    if playback:
        # Nobody is called, so no key is needed, and none should be near.
        references = []
    references = [references] if isinstance(references, str) else references
    found: list[Key] = []
    for index, reference in enumerate(references):
        found += keys.of_reference(str(reference), locate((*path, "keys", index)))
    if references and not found:
        keys.missing[name] = str(references[0]).partition(":")[2]
    return UpstreamSettings(
        name=name,
        base_url=_checked_url(base_url, locate((*path, "base_url"))),
        keys=tuple(found),
        organization=str(part.get("organization") or ""),
        project=str(part.get("project") or ""),
        proxy=str(part.get("proxy") or ""),
        model=str(part.get("model") or (OPENAI_MODEL if base_url == OPENAI_BASE_URL else "")),
        timeouts=_timeouts(part.get("timeouts"), timeouts, (*path, "timeouts"), locate),
        attempts=_number(part, "attempts", 3, 1, 10, path, locate),
        concurrency=_number(part, "concurrency", 0, 1, 10_000, path, locate),
        fallbacks=tuple(_fallbacks(part.get("fallbacks"), (*path, "fallbacks"), locate)),
        environment_proxies=keys.proxies,
        record=record,
        playback=playback,
        is_playback_timed=_flag(part, "playback_timed", path, locate),
    )


def _flag(part: Mapping[str, Any], name: str, path: Sequence[str], locate: Locate) -> bool:
    given = part.get(name, False)
    if isinstance(given, bool):
        return given
    raise SettingError(
        "%(place)s: %(name)s must be true or false, got '%(got)s'.",
        place=locate((*path, name)),
        name=name,
        got=given,
    )


def _number(
    part: Mapping[str, Any],
    name: str,
    default: int,
    low: int,
    high: int,
    path: Sequence[str],
    locate: Locate,
) -> int:
    given = part.get(name)
    if given is None:
        return default
    if isinstance(given, int) and not isinstance(given, bool) and low <= given <= high:
        return given
    raise SettingError(
        "%(place)s: %(name)s must be a whole number from %(low)s to %(high)s, got '%(got)s'.",
        place=locate((*path, name)),
        name=name,
        low=low,
        high=high,
        got=given,
    )


def _fallbacks(given: object, path: Sequence[str | int], locate: Locate) -> Iterator[Fallback]:
    entries = given if isinstance(given, list) else [] if given is None else [given]
    for index, entry in enumerate(entries):
        place: Sequence[str | int] = (*path, index)
        part = {"upstream": entry} if isinstance(entry, str) else _mapping(entry, place, locate)
        _check_keys(part, {"upstream", "model", "models"}, place, locate)
        models = _mapping(part.get("models"), (*place, "models"), locate)
        yield Fallback(
            upstream=str(part.get("upstream") or ""),
            model=str(part.get("model") or ""),
            models={str(asked): str(instead) for asked, instead in models.items()},
        )


def _check_fallbacks(upstreams: Mapping[str, UpstreamSettings], locate: Locate) -> None:
    """Each names another upstream, and none twice. Rehearsal stands in for nobody: it is no model."""
    for name, upstream in upstreams.items():
        named: list[str] = []
        for index, fallback in enumerate(upstream.fallbacks):
            if fallback.upstream not in upstreams or fallback.upstream in (name, *named):
                others = [other for other in upstreams if other != name]
                raise SettingError(
                    "%(place)s: '%(name)s' cannot stand in here. Name other upstreams, each once: %(known)s.",
                    place=locate(("upstreams", name, "fallbacks", index)),
                    name=fallback.upstream,
                    known=", ".join(others) or "–",
                )
            named.append(fallback.upstream)


def _timeouts(given: object, defaults: Timeouts, path: Sequence[str], locate: Locate) -> Timeouts:
    part = _mapping(given, path, locate)
    _check_keys(part, {"connect", "first_byte", "idle", "total"}, path, locate)
    seconds = {
        "connect": defaults.connect_s,
        "first_byte": defaults.first_byte_s,
        "idle": defaults.idle_s,
        "total": defaults.total_s,
    }
    for name, value in part.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 86_400:
            raise SettingError(
                "%(place)s: %(name)s must be a number of seconds above 0, got '%(got)s'.",
                place=locate((*path, name)),
                name=name,
                got=value,
            )
        seconds[name] = float(value)
    return Timeouts(*seconds.values())


def _prices(given: object, locate: Locate) -> dict[str, Mapping[str, float]]:
    prices: dict[str, Mapping[str, float]] = {}
    for model, value in _mapping(given, ("prices",), locate).items():
        part = _mapping(value, ("prices", model), locate)
        _check_keys(part, {"input", "output", "cached"}, ("prices", model), locate)
        for name, price in part.items():
            if isinstance(price, bool) or not isinstance(price, int | float) or price < 0:
                raise SettingError(
                    "%(place)s: a price is a number of US dollars per million tokens, got '%(got)s'.",
                    place=locate(("prices", model, name)),
                    got=price,
                )
        prices[model] = {name: float(price) for name, price in part.items()}
    return prices


def _mapping(given: object, path: Sequence[str | int], locate: Locate) -> Mapping[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise SettingError(
            "%(place)s: '%(name)s' must be a mapping.", place=locate(path), name=str(path[-1])
        )
    return given


def _check_keys(
    part: Mapping[str, Any], known: set[str], path: Sequence[str | int], locate: Locate
) -> None:
    for name in part:
        if name not in known:
            raise SettingError(
                "%(place)s: '%(name)s' is no setting. Known here: %(known)s.",
                place=locate((*path, name)),
                name=name,
                known=", ".join(sorted(known)),
            )


def _checked_url(url: str, place: str) -> str:
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
        # What stands there may be a key, and the address is shown on pages and in what is said at the start.
        is_private = bool(parts.username or parts.password) or "?" in url or "#" in url
    except ValueError:
        is_usable = is_private = False
    if not is_usable or is_private:
        raise SettingError(
            "%(place)s: the address must look like https://host/v1, without user, password, ? and #."
            " Keys are named apart from it.",
            place=place,
        )
    return url.rstrip("/")


def _default_upstream(chosen: str, upstreams: Mapping[str, UpstreamSettings]) -> str:
    known = [*upstreams, REHEARSAL]
    if chosen and chosen not in known:
        raise SettingError(
            "There is no upstream '%(name)s'. Configured: %(known)s.",
            name=chosen,
            known=", ".join(known),
        )
    return chosen or known[0]
