"""``rolebook serve``: the pages, on the production server.

The one place that knows the command line and the pages; in the layers it stands above both.
"""

from __future__ import annotations

import errno
import logging
import socket
import sys
import threading
import time
import webbrowser
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import click

from rolebook.cli.command import command, setting_option
from rolebook.cli.invocation import Invocation, pass_invocation
from rolebook.cli.terminal import Terminal
from rolebook.config import REHEARSAL, SETTINGS
from rolebook.core.errors import RolebookError, SettingError, StorageError

if TYPE_CHECKING:
    from rolebook.wiring import Rolebook

_logger = logging.getLogger(__name__)

_OPTIONS = ("host", "port", "threads", "gateway_processes")
#: How long after the end of a process its locks may still be held.
_GONE_S = 0.3

_HELP = """Serve the pages, until Ctrl-C or SIGTERM.

They are served to this computer only, unless --host, --proxies or --host-names says otherwise; then people log in (see
`rolebook users`)."""

_EXAMPLES = """
rolebook serve
rolebook serve --port 0 --open
OPENAI_BASE_URL=http://127.0.0.1:11434/v1 ROLEBOOK_MODEL=llama3 rolebook serve
"""


@command(
    help=_HELP,
    examples=_EXAMPLES,
    params=[setting_option(s) for s in SETTINGS if s.name in _OPTIONS],
)
@click.option("--open", "is_opened", is_flag=True, help="Open the pages in the browser.")
@click.option(
    "--allow-network",
    is_flag=True,
    help="Serve without a login where other computers reach it: everyone there may use it.",
)
@pass_invocation
def serve(invocation: Invocation, is_opened: bool, allow_network: bool) -> None:
    from rolebook.serving.memory import give_back_large_blocks

    give_back_large_blocks()
    invocation.on_open = partial(_choose_speaker, invocation)
    rolebook = invocation.rolebook
    settings = rolebook.settings
    is_exposed = bool(settings.exposure) and not allow_network
    # Processes are forked while there is nothing open yet that they could not share.
    several = _Several(rolebook, is_exposed=is_exposed) if settings.gateway_processes else None
    rolebook.log.open(check=True)
    if is_exposed:
        _require_login(rolebook)
    from rolebook.serving.server import serve as run
    from rolebook.web.app import create_app

    try:
        run(
            several.app if several else create_app(rolebook, is_exposed=is_exposed),
            address=(settings.host, settings.port),
            threads=settings.threads,
            gateways=several.gateways if several else None,
            service=rolebook,
            on_ready=partial(_welcome, invocation, is_opened),
        )
    except OSError as error:
        raise _explained(error, settings.host, settings.port) from None


class _Lines(Terminal):
    """Says to machines, a line of JSON each, what people are told on standard error; in English, like all lines."""

    def __init__(self, _language: str) -> None:
        super().__init__("en")

    def tell_line(self, text: str) -> None:
        _logger.info("%s", text)

    def fail_line(self, text: str) -> None:
        _logger.error("%s", text)


def _choose_speaker(invocation: Invocation, rolebook: Rolebook) -> None:
    if rolebook.settings.log_format == "json":
        _write_json_lines()
        invocation.speaker = _Lines


def _write_json_lines() -> None:
    from rolebook.web.request_log import write_json_lines

    write_json_lines()
    _logger.setLevel(logging.INFO)


class _Several:
    """The application of a server of several processes, and its gateway processes. Raises SettingError."""

    def __init__(self, rolebook: Rolebook, *, is_exposed: bool) -> None:
        if not sys.platform.startswith("linux"):
            raise SettingError("gateway_processes must be 0 here: several processes need Linux.")
        from rolebook.core.shared import SharedNumbers
        from rolebook.serving.gateways import Gateways
        from rolebook.serving.nursery import Nursery
        from rolebook.web.app import create_app
        from rolebook.web.siblings import Siblings

        count = rolebook.settings.gateway_processes
        rolebook.share()
        self._rolebook = rolebook
        self._told = SharedNumbers(count)
        self.app = create_app(rolebook, is_exposed=is_exposed)
        self.gateways = Gateways(
            Nursery(_load_client, self._answer), count, self._told, on_lost=self._recover
        )
        self.app.extensions["rolebook-siblings"] = Siblings(self.gateways)

    def _answer(self, way: socket.socket, number: int) -> None:
        """What a gateway process does."""
        from rolebook.core.shared import Told
        from rolebook.serving.gateway import answer

        rolebook = self._rolebook

        def tell(taken: int, ended: int) -> None:
            turns = rolebook.chat.live_turns, rolebook.log.unwritten
            self._told[number] = Told(taken, ended, *turns, round(time.monotonic() * 1000))

        answer(
            self.app,
            way,
            threads=rolebook.settings.threads,
            tell=tell,
            service=rolebook,
            on_ready=self._get_ready,
        )

    def _get_ready(self) -> None:
        _get_ready(self._rolebook)
        # Told of changes it need not look at the files with every call; to record them is for the main process.
        changes = self._rolebook.library.follow(threading.Event())
        threading.Thread(target=lambda: deque(changes, maxlen=0), daemon=True).start()

    def _recover(self) -> None:
        """A process has ended unasked: what it has begun is over."""
        # Its end is seen a moment before the system has let go of all that it held.
        time.sleep(_GONE_S)
        try:
            self._rolebook.log.interrupt_orphans()
        except StorageError as error:
            _logger.warning("what a process left behind is still pending in the log: %s", error)


def _load_client() -> None:
    import rolebook.upstream.client  # noqa: F401


def _get_ready(rolebook: Rolebook) -> None:
    """Get ready for the first turn."""
    if rolebook.settings.log_format == "json":
        # Once more, as the server has loggers of its own by now.
        _write_json_lines()
    # Where nobody has to log in, that has to be seen once, so that pages can say it if the log is damaged later.
    with suppress(StorageError):
        rolebook.accounts.has_users()
    rolebook.sandbox.warm()


def _require_login(rolebook: Rolebook) -> None:
    """Raises SettingError if everyone in the network could do as they like."""
    exposure = rolebook.settings.exposure
    if rolebook.settings.login == "never":
        raise SettingError(
            "With login set to never, everyone who reaches Rolebook by %(setting)s could read the log and use your key."
            " If that is what you want, add --allow-network.",
            setting=exposure,
        )
    if not rolebook.accounts.has_users():
        raise SettingError(
            "By %(setting)s others reach Rolebook, and there is nobody yet who could log in. Make an administrator"
            " first: rolebook users add NAME --role administrator. To let everyone in without a login, add"
            " --allow-network.",
            setting=exposure,
        )


def _explained(error: OSError, host: str, port: int) -> RolebookError:
    if error.errno == errno.EADDRINUSE:
        return RolebookError(
            "Port %(port)d is in use, perhaps by another Rolebook. Stop that one, or choose another port:"
            " rolebook serve --port %(next)d",
            port=port,
            next=port + 1 if port < 65535 else 0,
        )
    return RolebookError(
        "The pages cannot be served on %(host)s, port %(port)d: %(reason)s.",
        host=host,
        port=port,
        reason=error.strerror or str(error),
    )


def _welcome(invocation: Invocation, is_opened: bool, host: str, port: int) -> None:
    """Say where the pages are and who answers, and get ready for the first turn."""
    rolebook, terminal = invocation.rolebook, invocation.terminal
    address = f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
    terminal.write_line(f"Rolebook: {address}")
    _tell_upstream(terminal, rolebook)
    problems = rolebook.library.problems()
    if problems:
        terminal.tell(
            "Mistakes and doubts in the files: %(count)d. `rolebook check` shows them.",
            count=len(problems),
        )
    terminal.tell("Ctrl-C stops it.")
    rolebook.recorder.start()
    _get_ready(rolebook)
    from rolebook.upstream.openai_upstream import warm_up

    warm_up()
    if is_opened:
        # A browser that is slow to start must not hold up the server's loop.
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()


def _tell_upstream(terminal: Terminal, rolebook: Rolebook) -> None:
    settings = rolebook.settings
    if settings.upstream == REHEARSAL:
        terminal.tell(
            "Upstream: rehearsal. No language model answers. To talk to one, set OPENAI_API_KEY, or OPENAI_BASE_URL for"
            " any OpenAI-compatible server."
        )
        return
    upstream = settings.upstreams[settings.upstream]
    terminal.tell(
        "Upstream: %(name)s at %(address)s, model: %(model)s.",
        name=upstream.name,
        address=upstream.base_url,
        model=settings.model or upstream.model or terminal.gettext("the first that it offers"),
    )
    missing = settings.missing_keys.get(upstream.name)
    if missing:
        terminal.tell(
            "It needs a key, and %(key)s holds none. Set it in the environment or in .env, then start again.",
            key=missing,
        )
