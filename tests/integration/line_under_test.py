"""A whole running line for fault tests: orders go in, every record is watched, the books are balanced afterwards."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pyarrow as pa
from confluent_kafka import Consumer, Message, TopicPartition

from harness.errors import StackError, WaitTimeout
from harness.ksqldb import KsqlClient
from harness.line import ALL_TOPICS, MACHINE_TOPICS, ROOT
from harness.measure.collect import collect, expected_of
from harness.measure.drain import Drain
from harness.measure.events import EVENTS_SCHEMA, EventsTable
from harness.measure.facts import Facts, read_facts
from harness.measure.ledger import Ledger, build_ledger
from harness.measure.record import read_topics
from harness.menu import load_menu
from harness.scenario import LineSettings
from harness.stacks import LocalStack, Ports

ORDER_PROCESSING = "order-processing"
SERVICES = (*MACHINE_TOPICS, ORDER_PROCESSING)
"""The ten long-running processes of the line."""

DONE_WITHIN_S = 40.0
"""Until a struck order is done; on two idle cores it takes a few seconds."""

T = TypeVar("T")
_MENU = load_menu()


def now_us() -> int:
    """Epoch microseconds, the clock of the line's headers."""
    return time.time_ns() // 1000


def is_frozen(pizza_id: int) -> bool:
    """Whether the menu in turn makes this one a frozen pizza."""
    return _MENU[(pizza_id - 1) % len(_MENU)].frozen


@dataclass(frozen=True)
class PlacedOrder:
    """An accepted order that takes the menu in turn."""

    order_id: int
    size: int
    first_pizza: int

    @property
    def pizzas(self) -> range:
        return range(self.first_pizza, self.first_pizza + self.size)

    def pizzas_through(self, machine: str) -> set[int]:
        """Those that visit this machine."""
        return {pizza for pizza in self.pizzas if machine != "freezer-machine" or is_frozen(pizza)}


@dataclass(frozen=True)
class Seen:
    """One record. ``headers`` by name."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]

    def number(self, header: str) -> int:
        """A header that holds a number; 0 where there is none."""
        return int(self.headers.get(header, b"0"))


class Watch:
    """Follows every topic of the line from its first record on, also over the broker's death."""

    def __init__(self, bootstrap_servers: str) -> None:
        self.records: dict[str, list[Seen]] = {topic: [] for topic in ALL_TOPICS}
        self.ids: dict[str, set[int]] = {topic: set() for topic in ALL_TOPICS}
        """Per topic, the ids of what the line itself wrote: those records have headers."""
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap_servers,
                "group.id": "watch",
                "enable.auto.commit": False,
                "reconnect.backoff.max.ms": 500,
                "log_level": 0,
            }
        )
        self._consumer.assign([TopicPartition(topic, 0, 0) for topic in ALL_TOPICS])

    def close(self) -> None:
        self._consumer.close()

    def until(self, condition: Callable[[], T | None], timeout_s: float, what: str) -> T:
        """Take records in until ``condition`` gives something truthy. Raises WaitTimeout, naming ``what``."""
        deadline = time.monotonic() + timeout_s
        while True:
            found = condition()
            if found:
                return found
            if time.monotonic() > deadline:
                raise WaitTimeout(f"{what}: not within {timeout_s:g} s")
            self.take_in()

    def take_in(self) -> None:
        """Take in what has come, waiting for up to 50 ms."""
        self._take(self._consumer.poll(0.05))
        for message in self._consumer.consume(1000, timeout=0):
            self._take(message)

    def _take(self, message: Message | None) -> None:
        if message is None or message.error() is not None:  # the broker may be away for a while
            return
        topic: Any = message.topic()
        offset: Any = message.offset()
        key: Any = message.key()
        value: Any = message.value()
        headers: Any = message.headers() or ()
        self.records[topic].append(Seen(offset, key, value, dict(headers)))
        if headers and key is not None and key.isdigit() and len(key) <= 10:
            self.ids[topic].add(int(key))


@dataclass
class LineUnderTest:
    """A line that is up and ready, at a capacity of 1, with its latency tables."""

    stack: LocalStack
    watch: Watch
    orders: list[PlacedOrder] = field(default_factory=list)

    # -- orders --------------------------------------------------------------------------------------------

    def post(self, size: int, *, key: str | None = None) -> httpx.Response:
        """One request to the order API, whatever comes of it."""
        headers = {} if key is None else {"Idempotency-Key": key}
        return httpx.post(f"{self.stack.endpoints.orders_url}/start-order/{size}", headers=headers, timeout=20)

    def order(self, size: int, *, key: str | None = None) -> PlacedOrder:
        """Place an order that must be accepted."""
        answer = self.post(size, key=key)
        assert answer.status_code == 202, answer.text
        return self._placed(answer)

    def order_by_all_means(self, size: int, key: str) -> PlacedOrder:
        """Place an order as a client that cares: repeat the request with its key until it is accepted."""
        deadline = time.monotonic() + DONE_WITHIN_S
        while True:
            with suppress(httpx.TransportError):  # nobody listens, or the connection broke off: outcome unknown
                answer = self.post(size, key=key)
                if answer.status_code == 202:
                    return self._placed(answer)
            assert time.monotonic() < deadline, "the order was not accepted"
            self.watch.take_in()

    def _placed(self, answer: httpx.Response) -> PlacedOrder:
        told = answer.json()
        first = 1 + sum(order.size for order in self.orders)
        order = PlacedOrder(told["orderId"], told["orderSize"], first)
        self.orders.append(order)
        return order

    def describe(self, order: PlacedOrder) -> Any:
        """What GET /orders/{id} says."""
        answer = httpx.get(f"{self.stack.endpoints.orders_url}/orders/{order.order_id}", timeout=5)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def wait_done(self, orders: Collection[PlacedOrder]) -> None:
        """Return when all of them are on ``order-done``."""
        wanted = {order.order_id for order in orders}
        self.watch.until(lambda: wanted <= self.watch.ids["order-done"], DONE_WITHIN_S, f"orders {sorted(wanted)} done")

    def wait_for(self, topic: str, pizza_id: int) -> None:
        """Return when the pizza is on this topic."""
        self.watch.until(lambda: pizza_id in self.watch.ids[topic], DONE_WITHIN_S, f"pizza {pizza_id} on {topic}")

    # -- faults --------------------------------------------------------------------------------------------

    def kill_at_once(self, services: Iterable[str]) -> None:
        """SIGKILL all of them before the supervisor can do anything about the first; those that are down stay so."""
        for service in services:
            with suppress(StackError):
                os.kill(self.stack.pid(service), signal.SIGKILL)

    @contextmanager
    def paused(self, service: str) -> Iterator[None]:
        """The service's process stands still while inside; if it is killed meanwhile, the new one does not."""
        pid = self.stack.pid(service)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            with suppress(StackError):
                if self.stack.pid(service) == pid:
                    os.kill(pid, signal.SIGCONT)

    # -- what came of it -----------------------------------------------------------------------------------

    def facts(self) -> Facts:
        """What all topics say by now."""
        batches = read_topics(self.stack.endpoints.bootstrap_servers)
        return read_facts(EventsTable(pa.Table.from_batches(batches, EVENTS_SCHEMA)))

    def drained_ledger(self) -> Ledger:
        """The books once every order is resolved, with each order complete in the latency tables too."""
        with Drain(self.stack.endpoints.bootstrap_servers) as drain:
            expected = [order.order_id for order in self.orders]
            result = drain.wait(DONE_WITHIN_S, expected_orders=expected, check=self.stack.check)
        assert result.complete, result
        facts = self.facts()
        with KsqlClient(self.stack.endpoints.ksqldb_url, timeout_s=10) as ksqldb:
            tables = collect(ksqldb, expected_of(facts), 20)
        assert tables.complete, tables.lacking
        return build_ledger(facts)

    def assert_exactly_once(self) -> None:
        """Every order and pizza of this line's whole life is there once, in every topic that it belongs in."""
        ledger = self.drained_ledger()
        assert ledger.findings() == []
        sizes = [order.size for order in self.orders]
        assert (ledger.orders_accepted, ledger.pizzas_accepted) == (len(sizes), sum(sizes))
        assert (ledger.orders_started, ledger.orders_done) == (len(sizes), len(sizes))
        assert (ledger.pizzas_dispatched, ledger.pizzas_done) == (sum(sizes), sum(sizes))


@contextmanager
def running_line(work_dir: Path, *, time_scale: float) -> Iterator[LineUnderTest]:
    """A line of its own on free ports; ``time_scale`` 0.05 makes a pizza take 50 ms at most machines."""
    with LocalStack(LineSettings(time_scale=time_scale), work_dir=work_dir, ports=Ports(0, 0, 0)) as stack:
        stack.up()
        stack.ready()
        with KsqlClient(stack.endpoints.ksqldb_url, timeout_s=10) as ksqldb:
            ksqldb.apply_directory(ROOT / "ksql")
        watch = Watch(stack.endpoints.bootstrap_servers)
        try:
            yield LineUnderTest(stack, watch)
        finally:
            watch.close()
