import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from rolebook.upstream.pace import asked_pause


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "-3"}, 0),
        ({"retry-after": "1.5", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e308"}, 86_400),
        ({"retry-after-ms": "1e300"}, 86_400),
        ({"retry-after": "Wed, 21 Oct 2099 07:28:00 GMT"}, 86_400),
        ({"x-ratelimit-reset": "9999d"}, 86_400),
        ({"x-ratelimit-reset": "2099-10-21T07:28:00Z"}, 86_400),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"retry-after": "3", "x-ratelimit-reset-requests": "60s"}, 3),
        ({"x-ratelimit-reset-requests": "120ms"}, 0.12),
        ({"x-ratelimit-reset-tokens": "6m0s"}, 360),
        ({"x-ratelimit-reset-tokens": "1h2m3.5s"}, 3723.5),
        ({"x-ratelimit-reset-requests": "17"}, 17),
        ({"x-ratelimit-reset-requests": "8s", "x-ratelimit-reset-tokens": "2s"}, 2),
        (
            {
                "x-ratelimit-reset-requests": "8s",
                "x-ratelimit-reset-tokens": "2s",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-remaining-tokens": "150",
            },
            8,
        ),
        ({"x-ratelimit-reset": "9"}, 9),
        ({"x-ratelimit-reset": "2015-10-21T07:28:00Z"}, 0),
        ({"x-ratelimit-reset": "2015-10-21T07:28:00"}, None),
        ({"x-ratelimit-reset": "tomorrow"}, None),
        ({"x-ratelimit-reset": ""}, None),
        ({"x-ratelimit-reset": "1e999"}, None),
    ],
)
def test_server_says_in_many_ways_how_long_to_wait(
    headers: dict[str, str], expected: float | None
) -> None:
    assert asked_pause(headers) == (None if expected is None else pytest.approx(expected))


def test_wait_may_be_until_a_time() -> None:
    soon = datetime.now(UTC) + timedelta(seconds=30)
    for headers in (
        {"retry-after": format_datetime(soon, usegmt=True)},
        {"x-ratelimit-reset": f"{time.time() + 30:.0f}"},
        {"x-ratelimit-reset": f"{(time.time() + 30) * 1000:.0f}"},
        {"x-ratelimit-reset": soon.isoformat()},
    ):
        assert asked_pause(headers) == pytest.approx(30, abs=1.5)


@pytest.mark.parametrize("behind_s", [3600, -3600])
def test_wait_until_a_time_is_reckoned_by_the_clock_of_the_server(behind_s: float) -> None:
    now = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=behind_s)
    soon = now + timedelta(seconds=4)
    for date in (format_datetime(now, usegmt=True), now.strftime("%a %b %d %H:%M:%S %Y")):
        for headers in (
            {"retry-after": format_datetime(soon, usegmt=True)},
            {"x-ratelimit-reset": f"{soon.timestamp():.0f}"},
            {"x-ratelimit-reset-requests": f"{soon.timestamp() * 1000:.0f}"},
            {"x-ratelimit-reset": soon.isoformat()},
        ):
            assert asked_pause({"date": date, **headers}) == 4


def test_date_that_cannot_be_read_is_none() -> None:
    soon = datetime.now(UTC) + timedelta(seconds=30)
    for date in ("", "noon", "Wed, 99 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 99999 07:28:00 GMT"):
        headers = {"date": date, "retry-after": format_datetime(soon, usegmt=True)}
        assert asked_pause(headers) == pytest.approx(30, abs=1.5)
