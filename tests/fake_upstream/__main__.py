"""Run the fake upstream in a process of its own: `python -m tests.fake_upstream --latency-ms 200`.

Prints its base URL on one line and serves until it is interrupted or terminated. `GET /stats` on
the same origin tells how many requests and connections there were.
"""

import argparse
import signal
import threading

from tests.fake_upstream import BEHAVIOURS, FakeUpstream
from tests.fake_upstream.exchange import COMMON_OPTIONS

RULES = ("key", "model", "path")


def _parse_rule(text: str) -> tuple[str, str]:
    name, separator, behaviour = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"expected NAME=BEHAVIOUR, got {text!r}")
    return name, behaviour


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fake_upstream", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (default)")
    parser.add_argument("--require-key", action="append", metavar="KEY", help="may be repeated")
    for name in ("latency-ms", "ttft-ms", "delay-ms"):
        parser.add_argument(f"--{name}", type=float, help="for every model that gives none itself")
    parser.add_argument("--tokens", type=int, help="the length of every text")
    parser.add_argument("--max-wait-s", type=float, default=60.0, help="the longest silence")
    parser.add_argument("--keep", type=int, default=1000, help="how many requests to remember")
    for scope in RULES:
        parser.add_argument(
            f"--{scope}-rule",
            type=_parse_rule,
            action="append",
            default=[],
            metavar=f"{scope.upper()}=BEHAVIOUR",
        )
    parser.add_argument("--list", action="store_true", help="list the behaviours and end")
    return parser


def _list_behaviours() -> None:
    for fault in BEHAVIOURS.values():
        own = {name: value for name, value in fault.options.items() if name not in COMMON_OPTIONS}
        options = "&".join(f"{name}={value}" for name, value in own.items())
        print(f"{fault.name:20} {fault.kind:8} {fault.description}  {options}".rstrip())


def main() -> None:
    """Serve until SIGINT or SIGTERM."""
    given = _parser().parse_args()
    if given.list:
        _list_behaviours()
        return
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    paces = ("latency_ms", "ttft_ms", "delay_ms", "tokens")
    pace = {name: getattr(given, name) for name in paces if getattr(given, name) is not None}
    with FakeUpstream(
        port=given.port,
        require_key=given.require_key,
        max_wait_s=given.max_wait_s,
        keep=given.keep,
        **pace,
    ) as upstream:
        for scope in RULES:
            for name, behaviour in getattr(given, f"{scope}_rule"):
                getattr(upstream, f"{scope}_rule")(name, behaviour)
        print(upstream.base_url, flush=True)
        stop.wait()


if __name__ == "__main__":
    main()
