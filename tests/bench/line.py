"""The line's own overhead, as ratios against what it cannot undercut, all within one run of one stack each.

``efficiency``: one order of 100 fresh pizzas at the original work times, against the line model.
``cycle``: at a hundredth of the work times, the bottleneck's cycle against work + hop + hop + acknowledgement.
``latency``: single frozen pizzas without any work, against nine bare hops.
``throughput``: pizzas without work at capacity 32, against the broker's own limit for as many records.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from harness.analysis.line_model import Pizzas, makespan_us, nominal_work_us
from harness.line import MACHINE_TOPICS
from harness.measure.drain import Drain
from harness.measure.events import EventsTable
from harness.measure.facts import Facts, read_facts
from harness.measure.record import read_topics
from harness.measure.stages import read_stages
from harness.menu import load_menu
from harness.scenario import LineSettings
from harness.stacks import LocalStack, Ports
from machines.runtime.kafka import CONSUMER, PRODUCER
from tests.bench.hop import PAUSE_S, HopProbe, Hops, next_record

FRESH, FROZEN = "margherita", "frozen-vegetariana"
WARM_UP_ORDERS = 200
WARM_UP_PIZZAS = 400
QUICK = 0.01
"""The largest time scale at which a warm-up of that many pizzas is a matter of seconds."""
FREE_PORTS = Ports(kafka=0, orders=0, ksqldb=0)


@dataclass(frozen=True)
class Recorded:
    facts: Facts
    stages: pa.Table

    def stage(self, machine: str, column: str) -> dict[int, int]:
        """A column of one machine's stages by pizza id; without censored ones."""
        rows = self.stages.filter(np.asarray(self.stages["machine"].cast(pa.string())) == machine)
        pairs = zip(rows["pizza_id"].to_pylist(), rows[column].to_pylist(), strict=True)
        return {int(pizza): int(value) for pizza, value in pairs if pizza is not None and value is not None}


class Line:
    """A running stack and its orders. ``order`` hardly touches the broker while it waits."""

    def __init__(self, stack: LocalStack, drain: Drain) -> None:
        self.stack = stack
        self._drain = drain

    @property
    def bootstrap_servers(self) -> str:
        return self.stack.endpoints.bootstrap_servers

    def order(self, size: int, recipe: str, timeout_s: float = 300.0) -> int:
        """Send an order, wait until it is done; returns its id."""
        answer = httpx.post(f"{self.stack.endpoints.orders_url}/start-order/{size}?recipe={recipe}")
        order_id = int(answer.raise_for_status().json()["orderId"])
        result = self._drain.wait(timeout_s, expected_orders=[order_id], check=self.stack.check)
        if not result.complete:
            raise RuntimeError(f"order {order_id} was not done within {timeout_s:g} s")
        return order_id

    @contextmanager
    def quick_orders(self, recipe: str) -> Iterator[Callable[[], int]]:
        """A function that sends an order of one pizza, returns its id once it is done, and pauses as the hops do."""
        consumer = Consumer({**CONSUMER, "bootstrap.servers": self.bootstrap_servers, "group.id": "bench"})
        done = len(self.recorded().facts.sightings["order-done"].ids)
        consumer.assign([TopicPartition("order-done", 0, done)])
        url = f"{self.stack.endpoints.orders_url}/start-order/1?recipe={recipe}"
        with httpx.Client() as client, closing(consumer):

            def order() -> int:
                order_id = int(client.post(url).raise_for_status().json()["orderId"])
                next_record(consumer)
                time.sleep(PAUSE_S)
                return order_id

            yield order

    def recorded(self) -> Recorded:
        events = EventsTable(pa.Table.from_batches(read_topics(self.bootstrap_servers)))
        facts = read_facts(events)
        return Recorded(facts, read_stages(events, facts))


@contextmanager
def line_up(settings: LineSettings) -> Iterator[Line]:
    """A line that has made its first pizzas: some hundreds where that takes seconds, for a broker's first thousands of
    requests are its slowest.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalStack(settings, work_dir=Path(folder), ports=FREE_PORTS) as stack,
    ):
        stack.up()
        stack.ready()
        with Drain(stack.endpoints.bootstrap_servers) as drain:
            line = Line(stack, drain)
            line.order(WARM_UP_PIZZAS if settings.time_scale <= QUICK else 10, FRESH)
            yield line


def no_work(capacity: int = 1) -> LineSettings:
    return LineSettings(time_scale=0.0, capacity=capacity)


def efficiency(time_scale: float, *, capacity: int = 1, repetitions: int = 3, pizzas: int = 100) -> dict[str, Any]:
    """Line efficiency of ``repetitions`` orders, one after the other on one stack."""
    settings = LineSettings(time_scale=time_scale, capacity=capacity)
    with line_up(settings) as line:
        orders = [line.order(pizzas, FRESH) for _ in range(repetitions)]
        facts = line.recorded().facts
    model_us = _model_us(settings, pizzas)
    measured_us = [_makespan_us(facts, order) for order in orders]
    return {
        "time_scale": time_scale,
        "capacity": capacity,
        "pizzas": pizzas,
        "model_s": model_us / 1e6,
        "measured_s": [round(us / 1e6, 4) for us in measured_us],
        "efficiency": [round(model_us / us, 4) for us in measured_us],
        "median_efficiency": round(statistics.median(model_us / us for us in measured_us), 4),
    }


def cycle(time_scale: float = 0.01, repetitions: int = 3, pizzas: int = 100) -> dict[str, Any]:
    """The bottleneck's cycle at capacity 1 beside the sum that it is made of; hops and acks measured
    just before and after each order."""
    settings = LineSettings(time_scale=time_scale)
    hops: list[Hops] = []
    with line_up(settings) as line, HopProbe(line.bootstrap_servers) as probe:
        orders = []
        for _ in range(repetitions):
            for _ in range(75):
                probe.round()
            orders.append(line.order(pizzas, FRESH))
            for _ in range(75):
                probe.round()
            hops.append(probe.take())
        recorded = line.recorded()
    work_us = max(settings.work_us(topic, 0) for topic in MACHINE_TOPICS)
    packed = recorded.stage("packaging-machine", "finished_us")
    books = recorded.facts.orders
    rounds: list[dict[str, float]] = []
    ratios: list[float] = []
    for order, measured in zip(orders, hops, strict=True):
        mine = [pizza for pizza in packed if int(books.orders_of(np.array([pizza]))[0]) == order]
        ends = sorted(packed[pizza] for pizza in mine)
        cycle_us = float(np.median(np.diff(ends[10:])))
        hop_us, ack_us = statistics.median(measured.hop_us), statistics.median(measured.ack_us)
        bound_us = work_us + 2 * hop_us + ack_us
        ratios.append(cycle_us / bound_us)
        rounds.append(
            {
                "cycle_us": cycle_us,
                "hop_us": hop_us,
                "ack_us": ack_us,
                "sum_us": bound_us,
                "ratio": round(ratios[-1], 3),
                **_in_run(recorded, mine),
            }
        )
    return {
        "time_scale": time_scale,
        "work_us": work_us,
        "rounds": rounds,
        "median_ratio": round(statistics.median(ratios), 3),
    }


def _in_run(recorded: Recorded, pizzas: Sequence[int]) -> dict[str, float]:
    """Where a cycle goes, medians over the vegetables machine's pizzas while the order ran."""
    machine, before = "oven-machine", "vegetables-machine"
    sent, arrived = recorded.stage(machine, "sent_us"), recorded.stage(machine, "arrived_us")
    started, finished = recorded.stage(machine, "started_us"), recorded.stage(machine, "finished_us")
    off = recorded.stage(machine, "handed_off_us")
    on = recorded.stage("packaging-machine", "sent_us")
    later = list(itertools.pairwise(pizzas[10:]))
    return {
        f"{machine}_hop_us": statistics.median(arrived[p] - sent[p] for p in pizzas[10:]),
        "overwork_us": statistics.median(finished[p] - started[p] for p in pizzas[10:]),
        "blocked_us": statistics.median(on[p] - finished[p] for p in pizzas[10:]),
        "ack_us": statistics.median(off[p] - on[p] for p in pizzas[10:]),
        f"{before}_answer_us": statistics.median(sent[q] - off[p] for p, q in later),
    }


def latency(repetitions: int = 5, orders: int = 100) -> dict[str, Any]:
    """p50 of the pizza latency of single frozen pizzas over nine times the p50 of a bare hop, taken in turn, one
    order and one hop there and back at a time, so that whatever else the machine does hits both."""
    blocks = []
    hops: list[Hops] = []
    bounds: list[int] = []
    with (
        line_up(no_work()) as line,
        HopProbe(line.bootstrap_servers) as probe,
        line.quick_orders(FROZEN) as order,
    ):
        for number in range(-WARM_UP_ORDERS, repetitions * orders):
            order_id = order()
            probe.round()
            if number == -1:
                probe.take()
            if number >= 0:
                bounds.append(order_id)
            if number >= 0 and (number + 1) % orders == 0:
                hops.append(probe.take())
        recorded = line.recorded()
    sent = recorded.stage("dough-machine", "sent_us")
    packed = recorded.stage("packaging-machine", "finished_us")
    books = recorded.facts.orders
    of_order = {int(books.orders_of(np.array([pizza]))[0]): pizza for pizza in sent}  # the orders hold one pizza each
    for number, measured in enumerate(hops):
        pizzas = [of_order[order_id] for order_id in bounds[number * orders : (number + 1) * orders]]
        latency_us = statistics.median(packed[pizza] - sent[pizza] for pizza in pizzas)
        hop_us = statistics.median(measured.hop_us)
        blocks.append(
            {
                "pizza_latency_p50_us": latency_us,
                "hop_p50_us": hop_us,
                "ratio": round(latency_us / (9 * hop_us), 3),
                "transport_p50_us": statistics.median(_transports(recorded, pizzas)),
                "inside_p50_us": statistics.median(_insides(recorded, pizzas)),
            }
        )
    return {"blocks": blocks, "median_ratio": statistics.median(block["ratio"] for block in blocks)}


def _transports(recorded: Recorded, pizzas: Sequence[int]) -> list[int]:
    """Sent to arrived, all machines."""
    values = []
    for machine in MACHINE_TOPICS:
        sent, arrived = recorded.stage(machine, "sent_us"), recorded.stage(machine, "arrived_us")
        values += [arrived[pizza] - sent[pizza] for pizza in pizzas]
    return values


def _insides(recorded: Recorded, pizzas: Sequence[int]) -> list[int]:
    """Arrived at a machine to sent on to the next, all machines but the last."""
    values = []
    for machine, after in itertools.pairwise(MACHINE_TOPICS):
        arrived, sent = recorded.stage(machine, "arrived_us"), recorded.stage(after, "sent_us")
        values += [sent[pizza] - arrived[pizza] for pizza in pizzas]
    return values


def throughput(pizzas: int = 2000, repetitions: int = 3) -> dict[str, Any]:
    """Pizzas per second without work at capacity 32, and what the broker takes of the same records unhindered."""
    rounds = []
    with line_up(no_work(capacity=32)) as line:
        orders = []
        limits = []
        for _ in range(repetitions):
            orders.append(line.order(pizzas, FRESH))
            limits.append(_record_rate(line.bootstrap_servers, 20_000))
        recorded = line.recorded()
    records = 8 * 2 + 1  # per fresh pizza: eight machines' records and signals, and pizza-done
    for order, record_rate in zip(orders, limits, strict=True):
        rate = pizzas / (_makespan_us(recorded.facts, order) / 1e6)
        limit = record_rate / records
        rounds.append({"pizzas_per_s": round(rate, 1), "limit_per_s": round(limit, 1), "ratio": round(rate / limit, 3)})
    return {"records_per_pizza": records, "rounds": rounds}


def _record_rate(bootstrap_servers: str, records: int) -> float:
    """Records per second through one topic, written by one client and read by another, nothing waited for singly."""
    topic = f"bench-rate-{time.monotonic_ns()}"
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    admin.create_topics([NewTopic(topic, 1)])[topic].result()
    consumer = Consumer({**CONSUMER, "bootstrap.servers": bootstrap_servers, "group.id": "bench"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    producer = Producer({**PRODUCER, "bootstrap.servers": bootstrap_servers})
    began = time.monotonic()
    for _ in range(records):
        producer.produce(topic, b"x" * 280, b"1", 0, headers=[("from", b"bench"), ("at-us", b"1700000000000000")])
    read = 0
    while read < records:
        producer.poll(0)
        read += sum(message.error() is None for message in consumer.consume(1000, timeout=0.05))
    seconds = time.monotonic() - began
    producer.flush()
    consumer.close()
    return records / seconds


def _model_us(settings: LineSettings, pizzas: int) -> int:
    menu = load_menu()
    recipe = next(number for number, one in enumerate(menu) if one.name == FRESH)
    work = np.repeat(nominal_work_us(settings, menu)[[recipe]], pizzas, axis=0)
    capacities = {topic: settings.capacity_of(topic) for topic in MACHINE_TOPICS}
    return makespan_us(Pizzas(np.zeros(pizzas, np.int64), np.zeros(pizzas, np.bool_), work), capacities)


def _makespan_us(facts: Facts, order: int) -> int:
    started, done = facts.sightings["order-processing"], facts.sightings["order-done"]
    return int(done.at_us[done.ids == order][0] - started.at_us[started.ids == order][0])
