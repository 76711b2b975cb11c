"""Runs one machine: the station's decisions carried out on Kafka.

Three threads bring events, all under one lock: the reader (records), the delivery thread (acknowledgements) and
the clock (work that is finished). While the machine works or is blocked, the reader goes on stamping arrivals.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from machines.runtime import messages
from machines.runtime.ids import IdSet
from machines.runtime.kafka import Link, Read, now_us
from machines.runtime.logs import Log
from machines.runtime.messages import BrokenRecord, Headers, Menu, Pizza, Recipe, microseconds
from machines.runtime.service import serve, wait_for_stop
from machines.runtime.settings import Settings
from machines.runtime.station import (
    Action,
    Arrived,
    Buried,
    CaughtUp,
    Commit,
    Event,
    Freed,
    HandedOn,
    HandOn,
    Job,
    Memory,
    Signal,
    Signalled,
    Spoiled,
    Station,
    Work,
    Worked,
)

DEAD_LETTER = "dead-letter"


@dataclass(frozen=True)
class MachineSpec:
    """What makes one machine different from the others.

    ``apply`` changes the pizza as this machine does; ``toppings`` counts those it handles; ``choose`` picks
    among several next topics; ``encode`` makes the record for the next topic from the pizza and the epoch
    microseconds at which work finished. The ``last`` machine has no next machine whose credit it must wait for.
    """

    topic: str
    next_topics: tuple[str, ...]
    description: str
    apply: Callable[[Pizza, Recipe], None] = lambda pizza, recipe: None
    toppings: Callable[[Recipe], int] = lambda recipe: 0
    choose: Callable[[Recipe], str] | None = None
    encode: Callable[[Pizza, int], bytes] = lambda pizza, finished_us: messages.encode(pizza)
    last: bool = False

    def next_topic(self, recipe: Recipe) -> str:
        return self.choose(recipe) if self.choose else self.next_topics[0]


def all_toppings(recipe: Recipe) -> int:
    return len(recipe.cheese) + len(recipe.meat) + len(recipe.veggies)


def run_machine(spec: MachineSpec) -> None:
    """The program of a machine: returns after a clean stop."""
    serve(spec.topic, lambda settings, link, log: _Machine(spec, settings, link, log).run())


class _Machine:
    def __init__(self, spec: MachineSpec, settings: Settings, link: Link, log: Log) -> None:
        self._spec = spec
        self._settings = settings
        self._menu = Menu.load(settings.menu_file)
        self._link = link
        self._log = log
        self._capacities = {topic: None if spec.last else settings.capacity(topic) for topic in spec.next_topics}
        self._credit_topics = {} if spec.last else {f"{topic}-done": topic for topic in spec.next_topics}
        self._station = Station(self._capacities)
        self._events: deque[Event] = deque()
        self._clock = threading.Condition(link.lock)
        self._deadline: float | None = None

    def run(self) -> None:
        spec, link = self._spec, self._link
        history = {*spec.next_topics, *self._credit_topics, f"{spec.topic}-done", DEAD_LETTER}
        link.wait_for_topics({spec.topic, *history}, self._settings.startup_timeout_s)
        positions = dict.fromkeys((spec.topic, *self._credit_topics), 0)
        self._station = Station(self._capacities, self._remember(history, positions))
        for read in link.read_back([spec.topic]):
            positions[spec.topic] = read.offset + 1
            self._on_record(read, now_us())
        threading.Thread(target=link.guarded(self._tick), name="clock", daemon=True).start()
        link.follow(positions, self._on_record)
        self._log.info("subscribed", topics=sorted(positions))
        with link.lock:
            self._handle(CaughtUp(now_us()))
        self._log.info("ready", recovered=positions[spec.topic])
        wait_for_stop()

    def _remember(self, topics: set[str], positions: dict[str, int]) -> Memory:
        memory = Memory(
            written={topic: IdSet() for topic in self._spec.next_topics},
            freed={topic: IdSet() for topic in self._credit_topics.values()},
        )
        for read in self._link.read_back(topics):
            if read.topic in positions:
                positions[read.topic] = read.offset + 1
            if read.topic == DEAD_LETTER:
                headers = read.headers
                offset = messages.spelled(headers.get("offset"))
                if headers.get("topic") == self._spec.topic.encode() and offset is not None:
                    memory.buried.add(offset)
            elif read.topic in memory.written:
                if (written := self._written_id(read)) is not None:
                    memory.written[read.topic].add(written)
            elif (pizza_id := messages.read_signal(read.value)) is not None:
                if read.topic in self._credit_topics:
                    memory.freed[self._credit_topics[read.topic]].add(pizza_id)
                else:
                    memory.signalled.add(pizza_id)
        return memory

    def _written_id(self, read: Read) -> int | None:
        """The pizza that a record on a next topic is; None if it is broken, for then its id may be forged.

        Size does not count: what this machine added may have made its own record too large for the next one.
        """
        try:
            if self._spec.last:
                return messages.read_pizza_done(read.value)
            pizza, _ = messages.read_pizza(read.key, read.value, self._menu, max_bytes=sys.maxsize)
            pizza_id: int = pizza["pizzaId"]
            return pizza_id
        except BrokenRecord:
            return None

    def _on_record(self, read: Read, at_us: int) -> None:
        if read.topic != self._spec.topic:
            pizza_id = messages.read_signal(read.value)
            if pizza_id is None:
                self._log.warning("broken signal", topic=read.topic, offset=read.offset)
            else:
                self._handle(Freed(self._credit_topics[read.topic], pizza_id, at_us))
            return
        try:
            pizza, recipe = messages.read_pizza(read.key, read.value, self._menu)
        except BrokenRecord as broken:
            self._handle(Spoiled(read.offset, broken.pizza_id, broken.order_id, (read, broken.reason)))
            return
        job = Job(
            pizza["pizzaId"],
            pizza["orderId"],
            read.offset,
            self._spec.next_topic(recipe),
            at_us,
            (pizza, recipe),
            self._settings.work_s(self._spec.toppings(recipe)),
        )
        self._handle(Arrived(job))

    def _handle(self, event: Event) -> None:
        """Take the station through ``event`` and all that follows from it at once. Under the lock."""
        self._events.append(event)
        while self._events:
            for action in self._station.step(self._events.popleft()):
                self._carry_out(action)

    def _carry_out(self, action: Action) -> None:
        if isinstance(action, Work):
            self._begin(action.job)
        elif isinstance(action, HandOn):
            self._hand_on(action.job)
        elif isinstance(action, Signal):
            self._signal(action)
        elif isinstance(action, Commit):
            self._link.settled(self._spec.topic, action.offset)
        else:
            self._bury(action.spoiled)

    def _begin(self, job: Job) -> None:
        if job.work_s <= 0:
            self._events.append(Worked(now_us()))
            return
        self._deadline = time.monotonic() + job.work_s
        self._clock.notify()

    def _tick(self) -> None:
        """The clock thread: says when work is finished, by an absolute deadline."""
        with self._clock:
            while True:
                if self._deadline is None:
                    self._clock.wait()
                    continue
                remaining = self._deadline - time.monotonic()
                if remaining > 0:
                    self._clock.wait(remaining)
                    continue
                self._deadline = None
                self._handle(Worked(now_us()))

    def _hand_on(self, job: Job) -> None:
        pizza, recipe = job.content
        job.content = None
        self._spec.apply(pizza, recipe)
        pizza["msgDesc"] = self._spec.description
        value = self._spec.encode(pizza, job.finished_us)
        headers: Headers = [("from", self._spec.topic.encode()), ("at-us", microseconds(now_us()))]
        self._link.send(
            job.next_topic,
            b"%d" % job.pizza_id,
            value,
            headers,
            lambda _, at_us: self._handle(HandedOn(job.pizza_id, at_us)),
        )

    def _signal(self, signal: Signal) -> None:
        message = {"pizzaId": signal.pizza_id, "orderId": signal.order_id, "doneMsg": True}
        headers: Headers = [("machine", self._spec.topic.encode())]
        job = signal.job
        if job is None:
            headers.append(("recovered", b"true"))
        else:
            headers += [
                ("arrived-us", microseconds(job.arrived_us)),
                ("started-us", microseconds(job.started_us)),
                ("finished-us", microseconds(job.finished_us)),
                ("handed-off-us", microseconds(job.handed_off_us)),
            ]
        self._link.send(
            f"{self._spec.topic}-done",
            b"%d" % signal.pizza_id,
            messages.encode(message),
            headers,
            lambda _, __: self._handle(Signalled(signal.offset)),
        )

    def _bury(self, spoiled: Spoiled) -> None:
        read, reason = spoiled.content
        self._log.warning("dead letter", topic=read.topic, offset=read.offset, reason=reason)
        self._link.send(
            DEAD_LETTER,
            *messages.dead_letter(self._spec.topic, read.topic, read.offset, read.key, read.value, reason, now_us()),
            lambda _, __: self._handle(Buried(spoiled.offset)),
        )
