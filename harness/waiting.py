"""Waiting for a condition with a bound, instead of sleeping and hoping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from harness.errors import WaitTimeout

T = TypeVar("T")


def wait_until(
    condition: Callable[[], T | None],
    timeout_s: float,
    what: str,
    *,
    interval_s: float = 0.05,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Return the first truthy value of ``condition``, asked every ``interval_s`` seconds.

    Raises WaitTimeout, naming ``what``, when ``timeout_s`` seconds have passed. The condition is asked at
    least once, and once more at the very end, so a value that came true during the last sleep counts.
    """
    deadline = clock() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        remaining = deadline - clock()
        if remaining <= 0:
            raise WaitTimeout(f"{what}: not within {timeout_s:g} s")
        sleep(min(interval_s, remaining))
