"""Nothing but the calls of a comparison, by the standard library: what this computer can do at best.

python -m benchmarks.comparison_calls BASE_URL CALLS CONCURRENCY
"""

from __future__ import annotations

import http.client
import json
import queue
import sys
import threading
from urllib.parse import urlsplit


def call_all(base_url: str, calls: int, concurrency: int) -> int:
    """Make all calls, each thread on a connection of its own. Returns how many were answered."""
    numbers: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(calls):
        numbers.put(number)
    answered: list[int] = []
    threads = [
        threading.Thread(target=_call, args=(base_url, numbers, answered))
        for _ in range(concurrency)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(answered)


def _call(base_url: str, numbers: queue.SimpleQueue[int], answered: list[int]) -> None:
    url = urlsplit(base_url)
    connection = http.client.HTTPConnection(url.netloc)
    try:
        while True:
            number = numbers.get_nowait()
            messages = [{"role": "user", "content": f"Input {number}"}]
            body = json.dumps({"model": "ok", "messages": messages})
            connection.request(
                "POST",
                f"{url.path}/chat/completions",
                body,
                {"Content-Type": "application/json", "Authorization": "Bearer x"},
            )
            reply = json.load(connection.getresponse())
            if "Echo" in reply["choices"][0]["message"]["content"]:
                answered.append(number)
    except queue.Empty:
        connection.close()


if __name__ == "__main__":
    sys.exit(call_all(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])) != int(sys.argv[2]))
