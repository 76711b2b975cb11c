"""The open-loop driver: sends every planned order when it is due, whatever became of those before it.

It never waits for an answer before the next order, never leaves one out, never sends one twice.
"""

from __future__ import annotations

import asyncio
import gc
import math
import resource
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Literal

import aiohttp
import orjson
from yarl import URL

from harness.load.schedule import PlannedOrder
from harness.scenario import DriverSettings

Clock = Callable[[], int]
"""The time in epoch microseconds. Must never step back."""

OrderPhase = Literal["warmup", "load"]
Outcome = Literal["accepted", "rejected", "unknown"]

_LEAD_US = 50_000
"""From the call to the first due time: what is set up meanwhile makes no order late."""

_EARLY_US = 500
"""The event loop rounds its waits up to whole milliseconds. Waking this much early halves what that adds."""

_SWITCH_INTERVAL_S = 0.0005
"""How soon another thread (a progress bar, say) must hand the interpreter back to the driver; usually 5 ms."""

_KEEP_ALIVE_S = 2.0
"""Shorter than any usual server's own limit, so that no order runs into a connection that is being closed."""

_SPARE_DESCRIPTORS = 256
"""Left for all else that the process has open."""

_PROGRESS_S = 0.2


@dataclass(frozen=True, slots=True)
class SentOrder:
    """What became of one order. Times are epoch microseconds.

    ``intended_us`` is when it was due; ``sent_us`` when its request was written to the connection (None: it
    never got one); ``acknowledged_us`` when the whole answer was there (None: no answer). ``status`` is the
    HTTP status, 0 without an answer. ``rejected`` orders do not exist; ``unknown`` ones may. ``error`` is empty
    for accepted orders whose answer named an ``order_id``.
    """

    index: int
    phase: OrderPhase
    size: int
    recipe: str | None
    intended_us: int
    sent_us: int | None
    acknowledged_us: int | None
    status: int
    outcome: Outcome
    order_id: int | None
    error: str


@dataclass(frozen=True, slots=True)
class SendLag:
    """How late orders were sent, in milliseconds, by nearest rank; None if none was. ``unsent`` never were."""

    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    unsent: int


def send_lag(orders: Sequence[SentOrder]) -> SendLag:
    """The lag of these orders: sent minus intended time."""
    lags = sorted(order.sent_us - order.intended_us for order in orders if order.sent_us is not None)

    def rank_ms(share: float) -> float | None:
        return lags[max(0, math.ceil(share * len(lags)) - 1)] / 1000 if lags else None

    return SendLag(rank_ms(0.50), rank_ms(0.99), rank_ms(1.0), len(orders) - len(lags))


def steady_clock() -> Clock:
    """A clock that reads the time of day once and counts on from there: setting the time does not move it."""
    offset_ns = time.time_ns() - time.monotonic_ns()
    return lambda: (time.monotonic_ns() + offset_ns) // 1000


def drive(
    url: str,
    planned: Sequence[PlannedOrder],
    *,
    phase: OrderPhase,
    settings: DriverSettings,
    on_progress: Callable[[int, int], None] = lambda begun, finished: None,
    into: list[SentOrder] | None = None,
    clock: Clock | None = None,
) -> list[SentOrder]:
    """Sends ``planned``, sorted by due time, to the order API at ``url``; returns what became of them, by index.

    ``url`` is like ``http://127.0.0.1:8082``. The first due time lies 50 ms after the call. Returns when every
    order has its answer or has waited ``settings.request_timeout_s`` for it. ``on_progress`` gets the numbers of
    orders begun and finished, a few times a second, in between orders: it must not block.

    Each result is appended to ``into`` as soon as it is there. When anything interrupts the call (Ctrl-C, a
    signal handler that raises), ``into`` also gets the orders under way, as ``unknown``; those not yet begun
    are left out.
    """
    results = [] if into is None else into
    first = len(results)
    with _descriptors_for(len(planned)) as connections, _undisturbed():
        run = _Run(url, phase, settings, clock or steady_clock(), results, connections)
        asyncio.run(run.all(planned, on_progress))
    return sorted(results[first:], key=lambda order: order.index)


class _Stamp:
    """Where the moment of sending is noted down for one request."""

    __slots__ = ("sent_us",)

    def __init__(self) -> None:
        self.sent_us: int | None = None


class _Run:
    """One call of ``drive``."""

    def __init__(
        self,
        url: str,
        phase: OrderPhase,
        settings: DriverSettings,
        clock: Clock,
        results: list[SentOrder],
        connections: int,
    ) -> None:
        self._url = url.rstrip("/")
        self._phase: OrderPhase = phase
        self._settings = settings
        self._clock = clock
        self._results = results
        self._connections = connections
        self._begun = 0
        self._finished = 0
        self._key = uuid.uuid4().hex
        self._targets: dict[tuple[int, str | None], URL] = {}

    async def all(self, planned: Sequence[PlannedOrder], on_progress: Callable[[int, int], None]) -> None:
        self._targets = {(order.size, order.recipe): self._target(order) for order in planned}
        start_us = self._clock() + _LEAD_US
        async with self._session() as session, asyncio.TaskGroup() as group:
            reporting = group.create_task(self._report(on_progress))
            async with asyncio.TaskGroup() as orders:
                for order in planned:
                    await self._until(start_us + order.due_us)
                    self._begun += 1
                    orders.create_task(self._send(session, order, start_us + order.due_us))
            reporting.cancel()
        on_progress(self._begun, self._finished)

    def _session(self) -> aiohttp.ClientSession:
        timeout_s = self._settings.request_timeout_s
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(self._note_sending)
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=_KEEP_ALIVE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            # aiohttp rounds up the timeouts that are above its threshold
            timeout=aiohttp.ClientTimeout(total=timeout_s, ceil_threshold=timeout_s),
            trace_configs=[trace],
        )

    async def _note_sending(self, _session: object, context: SimpleNamespace, _params: object) -> None:
        # aiohttp calls this once the connection is there, and writes the request right after in the same step of
        # the event loop. So waiting for a connection counts as lag.
        context.trace_request_ctx.sent_us = self._clock()

    def _target(self, order: PlannedOrder) -> URL:
        target = URL(f"{self._url}/start-order/{order.size}")
        return target.with_query(recipe=order.recipe) if order.recipe else target

    async def _until(self, due_us: int) -> None:
        # At least one turn of the loop, so that orders already begun go out before the next.
        await asyncio.sleep(0)
        if (left_us := due_us - self._clock() - _EARLY_US) > 0:
            await asyncio.sleep(left_us / 1_000_000)
        while self._clock() < due_us:  # noqa: ASYNC110 (no event tells the time)
            await asyncio.sleep(0)

    async def _report(self, on_progress: Callable[[int, int], None]) -> None:
        while True:
            await asyncio.sleep(_PROGRESS_S)
            on_progress(self._begun, self._finished)

    async def _send(self, session: aiohttp.ClientSession, order: PlannedOrder, intended_us: int) -> None:
        stamp = _Stamp()
        status, body = 0, b""
        acknowledged_us: int | None = None
        failure = "interrupted before the answer"
        try:
            async with session.post(
                self._targets[order.size, order.recipe],
                headers={"Idempotency-Key": f"{self._key}-{order.index}"},
                allow_redirects=False,
                trace_request_ctx=stamp,
            ) as response:
                status = response.status
                body = await response.read()
                acknowledged_us = self._clock()
            failure = ""
        except TimeoutError:
            failure = f"no answer within {self._settings.request_timeout_s:g} s"
        except (aiohttp.ClientError, OSError) as error:
            failure = f"{type(error).__name__}: {error}"
        finally:
            outcome, order_id, complaint = judge(status, body)
            self._finished += 1
            self._results.append(
                SentOrder(
                    index=order.index,
                    phase=self._phase,
                    size=order.size,
                    recipe=order.recipe,
                    intended_us=intended_us,
                    sent_us=stamp.sent_us,
                    acknowledged_us=acknowledged_us,
                    status=status,
                    outcome=outcome,
                    order_id=order_id,
                    error=failure or complaint,
                )
            )


def judge(status: int, body: bytes) -> tuple[Outcome, int | None, str]:
    """What an answer of the order API says: outcome, order id, complaint. Status 0: there was no answer."""
    if status != 202:
        said = body[:200].decode("utf-8", "replace")
        return ("rejected" if status in (422, 429) else "unknown"), None, f"HTTP {status}: {said}"
    try:
        order_id = orjson.loads(body)["orderId"]
    except (ValueError, TypeError, KeyError):
        order_id = None
    if isinstance(order_id, int) and not isinstance(order_id, bool):
        return "accepted", order_id, ""
    return "accepted", None, "the answer names no orderId"


@contextmanager
def _descriptors_for(orders: int) -> Iterator[int]:
    """Raises the soft limit on open files so that every order may have a connection of its own.

    Yields the bound on connections, 0 for none. Where the hard limit is lower, orders beyond it wait for a
    connection: they become late, which shows, instead of failing.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = orders + _SPARE_DESCRIPTORS
    unlimited = resource.RLIM_INFINITY
    allowed = needed if hard == unlimited else min(needed, hard)
    if soft != unlimited and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    try:
        yield 0 if allowed == needed else max(1, allowed - _SPARE_DESCRIPTORS)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Keeps the process itself from holding the driver up.

    The garbage collector is left its short passes only, as a full one takes many milliseconds; other threads
    give way sooner.
    """
    switch_interval = sys.getswitchinterval()
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(thresholds[0], thresholds[1], 1_000_000)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    try:
        yield
    finally:
        sys.setswitchinterval(switch_interval)
        gc.set_threshold(*thresholds)
        gc.unfreeze()
