"""The whole line in one process, without Kafka or time: stations, the order book, and topics that are lists.

A scheduler picks what happens next: a record is read, a write reaches its topic, a write is acknowledged, work ends, a
process is killed, a process starts again. A kill loses everything in memory; of the writes that were under way, each
topic keeps any prefix (the producer is idempotent and in order), and none of them is acknowledged.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

from machines.order_processing.book import Announce, Close, Dispatch, Order, OrderBook
from machines.runtime.ids import IdSet
from machines.runtime.messages import StackedOrder
from machines.runtime.station import (
    Action,
    Arrived,
    Buried,
    Bury,
    CaughtUp,
    Commit,
    Event,
    Freed,
    HandedOn,
    HandOn,
    Job,
    Memory,
    Phase,
    Signal,
    Signalled,
    Spoiled,
    Station,
    Work,
    Worked,
)

ROUTES = {
    "dough": ("oven",),
    "oven": ("freezer", "packaging"),
    "freezer": ("packaging",),
    "packaging": ("pizza-done",),
}
"""A short line with every shape of the real one: a fork, a shared next machine, a last machine."""

BROKEN = "broken"


@dataclass
class Write:
    topic: str
    record: object
    acknowledged: Callable[[], None]


@dataclass
class Topics:
    records: dict[str, list[object]] = field(default_factory=dict)

    def __getitem__(self, topic: str) -> list[object]:
        return self.records.setdefault(topic, [])


class Process:
    """What can be killed. ``sending`` has not reached the topics yet; ``written`` waits to be acknowledged."""

    name: str

    def __init__(self, topics: Topics) -> None:
        self.topics = topics
        self.alive = False
        self.sending: dict[str, deque[Write]] = {}
        self.written: deque[Write] = deque()
        self.positions: dict[str, int] = {}

    def send(self, topic: str, record: object, acknowledged: Callable[[], None]) -> None:
        self.sending.setdefault(topic, deque()).append(Write(topic, record, acknowledged))

    def kill(self, random: Random) -> None:
        for writes in self.sending.values():
            for _ in range(random.randint(0, len(writes))):
                write = writes.popleft()
                self.topics[write.topic].append(write.record)
        self.sending, self.written = {}, deque()
        self.alive = False

    def moves(self) -> Iterator[Callable[[], None]]:
        """Everything that could happen to this process next."""
        for writes in self.sending.values():
            if writes:
                yield lambda writes=writes: self._reach(writes)  # type: ignore[misc]
        if self.written:
            yield lambda: self.written.popleft().acknowledged()
        for topic, position in self.positions.items():
            if position < len(self.topics[topic]):
                yield lambda topic=topic: self._read_next(topic)  # type: ignore[misc]

    def _reach(self, writes: deque[Write]) -> None:
        write = writes.popleft()
        self.topics[write.topic].append(write.record)
        self.written.append(write)

    def _read_next(self, topic: str) -> None:
        offset = self.positions[topic]
        self.positions[topic] = offset + 1
        self.read(topic, offset, self.topics[topic][offset])

    def start(self) -> None:
        raise NotImplementedError

    def read(self, topic: str, offset: int, record: object) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class Pizza:
    pizza_id: int
    frozen: bool


class Machine(Process):
    def __init__(self, name: str, topics: Topics, capacities: dict[str, int]) -> None:
        super().__init__(topics)
        self.name = name
        self.capacities = {topic: None if topic == "pizza-done" else capacities.get(topic, 1) for topic in ROUTES[name]}
        self.station = Station(self.capacities)

    def start(self) -> None:
        memory = Memory(
            written={topic: IdSet(_ids(self.topics[topic])) for topic in self.capacities},
            freed={topic: IdSet(_ids(self.topics[f"{topic}-done"])) for topic in self.capacities},
            signalled=IdSet(_ids(self.topics[f"{self.name}-done"])),
            buried=IdSet(
                record[1]
                for record in self.topics["dead-letter"]
                if isinstance(record, tuple) and record[0] == self.name
            ),
        )
        self.alive = True
        self.station = Station(self.capacities, memory)
        self.positions = {
            f"{topic}-done": len(self.topics[f"{topic}-done"]) for topic in self.capacities if topic != "pizza-done"
        }
        self.positions[self.name] = 0
        for _ in range(len(self.topics[self.name])):
            self._read_next(self.name)
        self.tell(CaughtUp(0))

    def read(self, topic: str, offset: int, record: object) -> None:
        if topic != self.name:
            assert isinstance(record, int)
            self.tell(Freed(topic.removesuffix("-done"), record, 0))
        elif isinstance(record, Pizza):
            self.tell(Arrived(Job(record.pizza_id, 1, offset, self._next(record), 0, record)))
        else:
            assert isinstance(record, tuple)
            self.tell(Spoiled(offset, record[1], 1))

    def _next(self, pizza: Pizza) -> str:
        topics = ROUTES[self.name]
        return topics[0] if len(topics) == 1 or pizza.frozen else topics[1]

    def moves(self) -> Iterator[Callable[[], None]]:
        yield from super().moves()
        if self.station.phase is Phase.WORKING:
            yield lambda: self.tell(Worked(0))

    def tell(self, event: Event) -> None:
        for action in self.station.step(event):
            self.carry_out(action)

    def carry_out(self, action: Action) -> None:
        match action:
            case HandOn(done):
                self.send(done.next_topic, done.content, lambda: self.tell(HandedOn(done.pizza_id, 0)))
            case Signal(pizza_id, _, offset, job):
                if job is not None:  # recovered signals are for pizzas that are known to have left
                    assert pizza_id in _ids(self.topics[job.next_topic]), "-done before the pizza had left"
                self.send(f"{self.name}-done", pizza_id, lambda: self.tell(Signalled(offset)))
            case Bury(spoiled):
                self.send("dead-letter", (self.name, spoiled.offset), lambda: self.tell(Buried(spoiled.offset)))
            case Commit() | Work():
                pass


class Orders(Process):
    name = "order-processing"

    def __init__(self, topics: Topics, capacity: int) -> None:
        super().__init__(topics)
        self.capacity = capacity
        self.book = OrderBook(capacity)

    def start(self) -> None:
        self.alive = True
        self.book = OrderBook(self.capacity)
        self.positions = {}
        for record in self.topics["order-stack"]:
            assert isinstance(record, StackedOrder)
            self.book.stacked(record)
        for order_id in _ids(self.topics["order-processing"]):
            self.book.was_announced(order_id)
        for order_id in _ids(self.topics["order-done"]):
            self.book.was_closed(order_id)
        for pizza_id in _ids(self.topics["dough"]):
            self.book.was_dispatched(pizza_id)
        for topic in ("dough-done", "pizza-done"):
            for record in self.topics[topic]:
                self._note(topic, record)
        for topic in ("order-stack", "dough-done", "pizza-done"):
            self.positions[topic] = len(self.topics[topic])
        self.carry_out(self.book.caught_up())

    def _note(self, topic: str, record: object) -> None:
        pizza_id = record.pizza_id if isinstance(record, Pizza) else record
        assert isinstance(pizza_id, int)
        if topic == "dough-done":
            self.book.freed(pizza_id)
        else:
            assert self.book.pizza_done(pizza_id)
            self.carry_out(self.book.completed_by(pizza_id))

    def read(self, topic: str, offset: int, record: object) -> None:
        if topic == "order-stack":
            assert isinstance(record, StackedOrder)
            self.book.stacked(record)
        else:
            self._note(topic, record)
        self.carry_out(self.book.advance())

    def carry_out(self, actions: list[Announce | Dispatch | Close]) -> None:
        for action in actions:
            match action:
                case Announce(order):
                    self.send("order-processing", order.order_id, lambda order=order: self._announced(order))  # type: ignore[misc]
                case Dispatch(order, _, pizza_id):
                    assert order.order_id in self.topics["order-processing"], "dispatched before it was announced"
                    self.send("dough", Pizza(pizza_id, pizza_id % 3 == 0), lambda: None)
                case Close(order):
                    self.send("order-done", order.order_id, lambda: None)

    def _announced(self, order: Order) -> None:
        self.carry_out(self.book.acknowledged(order))


class SimulatedLine:
    """``capacities`` per machine (default 1). The processes start dead; ``run`` starts, kills and restarts them."""

    def __init__(self, capacities: dict[str, int]) -> None:
        self.topics = Topics()
        self.capacities = capacities
        self.machines = [Machine(name, self.topics, capacities) for name in ROUTES]
        self.processes: list[Process] = [Orders(self.topics, capacities.get("dough", 1)), *self.machines]

    def run(self, random: Random, *, kills: int, steps: int = 100_000) -> None:
        """Random moves until nothing can move any more and every process is alive. ``kills`` is how many may die."""
        for _ in range(steps):
            moves = [move for process in self.processes if process.alive for move in process.moves()]
            dead = [process for process in self.processes if not process.alive]
            if not moves and not dead:
                return
            self._check_capacity()
            if kills and random.random() < 0.08 and len(dead) < len(self.processes):
                kills -= 1
                random.choice([process for process in self.processes if process.alive]).kill(random)
            elif dead and (not moves or random.random() < 0.3):
                random.choice(dead).start()
            else:
                random.choice(moves)()
        raise AssertionError("the line did not come to rest")

    def _check_capacity(self) -> None:
        """Each sender's pizzas at a machine never exceed its capacity: handed on, and no -done yet."""
        for machine in self.machines:
            came = set(_ids(self.topics[machine.name]))
            for name, capacity in machine.capacities.items():
                freed = set(_ids(self.topics[f"{name}-done"]))
                # A frozen pizza that is at packaging was handed there by the freezer, not by the oven.
                there = {
                    pizza.pizza_id
                    for pizza in self.topics[name]
                    if isinstance(pizza, Pizza) and pizza.pizza_id in came and machine._next(pizza) == name
                } - freed
                assert capacity is None or len(there) <= capacity, f"{len(there)} pizzas of {machine.name} at {name}"

    def count(self, topic: str) -> Counter[int]:
        return Counter(_ids(self.topics[topic]))


def _ids(records: list[object]) -> list[int]:
    ids = [record.pizza_id if isinstance(record, Pizza) else record for record in records]
    return [number for number in ids if isinstance(number, int)]
