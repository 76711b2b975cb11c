"""An event simulation of the line, written without the recursion, to hold the recursion against.

It keeps what a real line keeps: queues, one pizza in work per machine, and per sender the number of its pizzas at
each next machine. It moves pizzas whenever a rule allows it, until nothing moves at this instant, then jumps to the
next end of work or release.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping

from harness.analysis.line_model import NEVER, Pizzas
from harness.line import MACHINE_TOPICS
from tests.routes import route

DISPATCHER = "order-processing"


class EventSimulation:
    def __init__(self, pizzas: Pizzas, capacity: Mapping[str, int] | None) -> None:
        self.pizzas = pizzas
        self.capacity = capacity
        self.queues: dict[str, deque[int]] = {topic: deque() for topic in MACHINE_TOPICS}
        self.at_work: dict[str, tuple[int, int]] = {}  # machine -> pizza, end of its work
        self.places: dict[tuple[str, str], set[int]] = {}  # sender, machine -> pizzas there
        self.sender_of: dict[tuple[str, int], str] = {}
        self.to_dispatch = deque(range(len(pizzas.release_us)))
        self.departures = [[NEVER] * (1 + len(MACHINE_TOPICS)) for _ in self.to_dispatch]
        self.now = 0

    def run(self) -> list[list[int]]:
        while True:
            while self._move_one():
                pass
            times = [end for _, end in self.at_work.values() if end > self.now]
            if self.to_dispatch:
                release = int(self.pizzas.release_us[self.to_dispatch[0]])
                times += [release] if release > self.now else []
            if not times:
                assert not self.at_work, "the line is stuck"
                assert not self.to_dispatch, "the line is stuck"
                return self.departures
            self.now = min(times)

    def _move_one(self) -> bool:
        """Whether anything moved. The last machine is asked first; a frozen pizza goes before a fresh one."""
        for topic in reversed(MACHINE_TOPICS):
            if topic in self.at_work and self._leave(topic):
                return True
        for topic, queue in self.queues.items():
            if queue and topic not in self.at_work:
                self._start(topic)
                return True
        if self.to_dispatch and self.pizzas.release_us[self.to_dispatch[0]] <= self.now:
            pizza = self.to_dispatch[0]
            if self._give(DISPATCHER, MACHINE_TOPICS[0], pizza):
                self.to_dispatch.popleft()
                self.departures[pizza][0] = self.now
                return True
        return False

    def _start(self, topic: str) -> None:
        pizza = self.queues[topic].popleft()
        work = int(self.pizzas.work_us[pizza, MACHINE_TOPICS.index(topic)])
        self.at_work[topic] = (pizza, self.now + work)

    def _leave(self, topic: str) -> bool:
        pizza, end = self.at_work[topic]
        stops = route(bool(self.pizzas.frozen[pizza]))
        following = dict(itertools.pairwise(stops)).get(topic)
        if end > self.now or (following and not self._give(topic, following, pizza)):
            return False
        del self.at_work[topic]
        self.places[self.sender_of[topic, pizza], topic].remove(pizza)
        self.departures[pizza][1 + MACHINE_TOPICS.index(topic)] = self.now
        return True

    def _give(self, sender: str, topic: str, pizza: int) -> bool:
        there = self.places.setdefault((sender, topic), set())
        if self.capacity is not None and len(there) >= self.capacity[topic]:
            return False
        there.add(pizza)
        self.sender_of[topic, pizza] = sender
        self.queues[topic].append(pizza)
        return True
