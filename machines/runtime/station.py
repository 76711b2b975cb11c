"""One machine's decisions as a pure transition table: no Kafka, no clock, no threads (PROTOCOL.md, rules 5 to 7, 11).

``Station.step`` takes what happened and returns what to do. The runtime tells it what it read and what was
acknowledged; the station says what to write next. An event that cannot happen in the present phase raises
IllegalStep and changes nothing.

The order of writing is the whole guarantee: the next topic, its acknowledgement, then ``-done``, its
acknowledgement, then the offset. What is in the next topic is therefore what a restarted station remembers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from machines.runtime.ids import IdSet


class Phase(Enum):
    RECOVERING = "recovering"
    """Reading back; pizzas queue up, no work starts."""
    IDLE = "idle"
    WORKING = "working"
    BLOCKED = "blocked"
    """A finished pizza waits for a free place at the next machine."""


class IllegalStep(RuntimeError):
    """The event cannot happen in this phase: the runtime and the station disagree about the world."""


@dataclass(slots=True)
class Job:
    """A pizza at this machine. Times are epoch microseconds; ``content`` is the runtime's and not looked at."""

    pizza_id: int
    order_id: int
    offset: int
    next_topic: str
    arrived_us: int
    content: Any = None
    work_s: float = 0.0
    started_us: int = 0
    finished_us: int = 0
    handed_off_us: int = 0


# Events and actions are values; they are not declared frozen because that makes each three times as dear to make.


@dataclass(slots=True)
class Arrived:
    """A sound pizza record was read from the input topic."""

    job: Job


@dataclass(slots=True)
class Spoiled:
    """A broken record was read; the ids are what it claims, if anything."""

    offset: int
    pizza_id: int | None
    order_id: int | None
    content: Any = None


@dataclass(slots=True)
class Freed:
    """``pizza_id`` was seen on the ``-done`` topic of the machine behind ``next_topic``."""

    next_topic: str
    pizza_id: int
    now_us: int


@dataclass(slots=True)
class CaughtUp:
    """Everything that was in the topics at the start has been told."""

    now_us: int


@dataclass(slots=True)
class Worked:
    """The work that was begun is finished."""

    now_us: int


@dataclass(slots=True)
class HandedOn:
    """The broker acknowledged the pizza's record on the next topic."""

    pizza_id: int
    now_us: int


@dataclass(slots=True)
class Signalled:
    """The broker acknowledged the ``-done`` record that belongs to the input record at ``offset``."""

    offset: int


@dataclass(slots=True)
class Buried:
    """The broker acknowledged the dead letter for the input record at ``offset``."""

    offset: int


# Actions


@dataclass(slots=True)
class Work:
    job: Job


@dataclass(slots=True)
class HandOn:
    job: Job


@dataclass(slots=True)
class Signal:
    """Write ``-done``. ``job`` carries the times; without it the record is marked as recovered."""

    pizza_id: int
    order_id: int
    offset: int
    job: Job | None


@dataclass(slots=True)
class Bury:
    """Write the broken record to ``dead-letter``."""

    spoiled: Spoiled


@dataclass(slots=True)
class Commit:
    """Every input record below ``offset`` is settled."""

    offset: int


Event = Arrived | Spoiled | Freed | CaughtUp | Worked | HandedOn | Signalled | Buried
Action = Work | HandOn | Signal | Bury | Commit


@dataclass
class Memory:
    """What the topics say of a station's past, read before its first step (PROTOCOL.md, rule 7).

    ``written`` and ``freed`` are per next topic: the ids in it, and the ids on its machine's ``-done`` topic.
    ``signalled`` holds the ids on the station's own ``-done`` topic, ``buried`` the offsets of its input
    records that are in ``dead-letter``.
    """

    written: dict[str, IdSet] = field(default_factory=dict)
    freed: dict[str, IdSet] = field(default_factory=dict)
    signalled: IdSet = field(default_factory=IdSet)
    buried: IdSet = field(default_factory=IdSet)


class Station:
    """``capacities`` gives, per next topic, how many pizzas this sender may have there; None is without limit."""

    def __init__(self, capacities: Mapping[str, int | None], memory: Memory | None = None) -> None:
        memory = memory or Memory()
        self.phase = Phase.RECOVERING
        self.current: Job | None = None
        self.waiting: deque[Job] = deque()
        self._capacities = dict(capacities)
        self._written = {topic: memory.written.get(topic, IdSet()) for topic in capacities}
        self._freed = {topic: memory.freed.get(topic, IdSet()) for topic in capacities}
        self._signalled = memory.signalled
        self._buried = memory.buried
        self._present: set[int] = set()  # ids waiting, in work or blocked
        self._handed_on = IdSet()
        self._at_next: dict[str, set[int]] = {topic: set() for topic in capacities}
        self._leaving: dict[int, Job] = {}  # handed on, not yet acknowledged
        self._signalling: dict[int, int] = {}  # offset -> pizza id of an unacknowledged -done
        self._burying: dict[int, Spoiled] = {}
        self._settled: set[int] = set()
        self._committed = 0

    def step(self, event: Event) -> list[Action]:
        """Apply ``event``; return the actions in the order in which they must be taken."""
        transition = TABLE.get((self.phase, type(event)))
        if transition is None:
            raise IllegalStep(f"{type(event).__name__} while {self.phase.value}")
        return transition(self, event)

    def free_credit(self, topic: str) -> float:
        """How many more pizzas may be handed to ``topic`` now."""
        capacity = self._capacities[topic]
        return float("inf") if capacity is None else capacity - len(self._at_next[topic])

    # Transitions. The lookup is by exact type, so each narrows its event's type in its signature.

    def _arrived(self, event: Arrived) -> list[Action]:
        job = event.job
        known = self._known(job)
        if known is None:
            self._present.add(job.pizza_id)
            self.waiting.append(job)
            return self._start_next(job.arrived_us) if self.phase is Phase.IDLE else []
        return known

    def _known(self, job: Job) -> list[Action] | None:
        """What to do about a pizza that was here before; None if it was not."""
        if job.pizza_id in self._present or job.pizza_id in self._leaving:
            return self._settle(job.offset)
        if job.pizza_id not in self._handed_on:
            topic = self._where_written(job)
            if topic is None:
                return None
            self._handed_on.add(job.pizza_id)
            self._occupy(topic, job.pizza_id)
        if job.pizza_id in self._signalled:
            return self._settle(job.offset)
        return self._signal(job.pizza_id, job.order_id, job.offset, None)

    def _where_written(self, job: Job) -> str | None:
        """The next topic on which an earlier life of this machine put the pizza."""
        if job.pizza_id in self._written[job.next_topic]:
            return job.next_topic
        for topic, ids in self._written.items():
            if job.pizza_id in ids:
                return topic
        return None

    def _spoiled(self, event: Spoiled) -> list[Action]:
        if event.offset not in self._buried:
            self._burying[event.offset] = event
            return [Bury(event)]
        if event.pizza_id is None or event.pizza_id in self._signalled:
            return self._settle(event.offset)
        return self._signal(event.pizza_id, event.order_id or 0, event.offset, None)

    def _buried_one(self, event: Buried) -> list[Action]:
        spoiled = self._burying.pop(event.offset, None)
        if spoiled is None:
            raise IllegalStep(f"offset {event.offset} was acknowledged as a dead letter and never written as one")
        self._buried.add(event.offset)
        if spoiled.pizza_id is None:
            return self._settle(event.offset)
        return self._signal(spoiled.pizza_id, spoiled.order_id or 0, event.offset, None)

    def _freed_place(self, event: Freed) -> list[Action]:
        self._freed[event.next_topic].add(event.pizza_id)
        self._at_next[event.next_topic].discard(event.pizza_id)
        return []

    def _freed_while_blocked(self, event: Freed) -> list[Action]:
        self._freed_place(event)
        assert self.current is not None
        if self.free_credit(self.current.next_topic) < 1:
            return []
        return self._hand_on(event.now_us)

    def _caught_up(self, event: CaughtUp) -> list[Action]:
        self.phase = Phase.IDLE
        return self._start_next(event.now_us)

    def _worked(self, event: Worked) -> list[Action]:
        assert self.current is not None
        self.current.finished_us = event.now_us
        if self.free_credit(self.current.next_topic) < 1:
            self.phase = Phase.BLOCKED
            return []
        return self._hand_on(event.now_us)

    def _hand_on(self, now_us: int) -> list[Action]:
        """Send the finished pizza on and turn to the next one; the acknowledgements come while that is in work."""
        job = self.current
        assert job is not None
        self.current = None
        self.phase = Phase.IDLE
        self._present.discard(job.pizza_id)
        self._leaving[job.pizza_id] = job
        self._handed_on.add(job.pizza_id)
        self._occupy(job.next_topic, job.pizza_id)
        return [HandOn(job), *self._start_next(now_us)]

    def _start_next(self, now_us: int) -> list[Action]:
        if not self.waiting:
            return []
        job = self.waiting.popleft()
        self.current = job
        self.phase = Phase.WORKING
        job.started_us = now_us
        return [Work(job)]

    def _handed_on_acknowledged(self, event: HandedOn) -> list[Action]:
        job = self._leaving.pop(event.pizza_id, None)
        if job is None:
            raise IllegalStep(f"pizza {event.pizza_id} was acknowledged and never handed on")
        job.handed_off_us = event.now_us
        return self._signal(job.pizza_id, job.order_id, job.offset, job)

    def _signal(self, pizza_id: int, order_id: int, offset: int, job: Job | None) -> list[Action]:
        self._signalling[offset] = pizza_id
        self._signalled.add(pizza_id)
        return [Signal(pizza_id, order_id, offset, job)]

    def _signal_acknowledged(self, event: Signalled) -> list[Action]:
        if self._signalling.pop(event.offset, None) is None:
            raise IllegalStep(f"a signal for offset {event.offset} was acknowledged and never written")
        return self._settle(event.offset)

    def _occupy(self, topic: str, pizza_id: int) -> None:
        if self._capacities[topic] is not None and pizza_id not in self._freed[topic]:
            self._at_next[topic].add(pizza_id)

    def _settle(self, offset: int) -> list[Action]:
        self._settled.add(offset)
        before = self._committed
        while self._committed in self._settled:
            self._settled.discard(self._committed)
            self._committed += 1
        return [Commit(self._committed)] if self._committed > before else []


_ANY_PHASE: dict[type, Callable[[Station, Any], list[Action]]] = {
    Arrived: Station._arrived,
    Spoiled: Station._spoiled,
    Buried: Station._buried_one,
    Signalled: Station._signal_acknowledged,
    Freed: Station._freed_place,
}

TABLE: dict[tuple[Phase, type], Callable[[Station, Any], list[Action]]] = {
    **{(phase, event): transition for phase in Phase for event, transition in _ANY_PHASE.items()},
    **{(phase, HandedOn): Station._handed_on_acknowledged for phase in Phase if phase is not Phase.RECOVERING},
    (Phase.RECOVERING, CaughtUp): Station._caught_up,
    (Phase.WORKING, Worked): Station._worked,
    (Phase.BLOCKED, Freed): Station._freed_while_blocked,
}
"""Every legal (phase, event). The docs' diagram and the tests are made from it."""
