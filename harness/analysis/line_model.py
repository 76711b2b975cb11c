"""The best any line with these work times could do: departure times on a line without transport.

The model is a tandem queue with finite buffers and *blocking after service* (also: manufacturing blocking, type 1;
see Perros, Queueing Networks with Blocking, 1994, and Balsamo, de Nitto Persone and Onvural, 2001): a machine works
on one pizza at a time, and a finished pizza stays on it until the next machine has a free place for its sender. With
``finish_i(k)`` the end of work on pizza k at machine i, and ``c`` the capacity of the next machine,

    start_i(k)  = max(D_{i-1}(k), D_i(k - 1))          arrival, and the machine free
    finish_i(k) = start_i(k) + work_i(k)
    D_i(k)      = max(finish_i(k), D_next(k - c))      hand-over; k - c is by this sender's pizzas to it

Order-processing is the sender to the dough machine: D_0(k) = max(release(k), D_0(k - 1), D_dough(k - c)). The last
machine never blocks.

Two senders meet at packaging. The oven blocks for the place that *this* pizza needs, one of its own at the freezer
or one of its own at packaging; packaging takes whoever came first, and the pizza that was dispatched earlier if both
came in the same microsecond. No simulation is needed for that: a frozen pizza that leaves the oven after a fresh one
also reaches packaging after it, so whenever the recursion needs a departure from packaging, everything that is served
before it has already been looked at (``_Tail`` says where this is used).

On a line of fresh pizzas only (or frozen only) every equation is made of sums and maxima, hence monotone:
no real line with at least these work times and these releases, serving in this order, finishes earlier.
Where fresh and frozen mix, a slower line may merge them in a luckier order, so the bound can in principle
be passed by a few cycles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.line import MACHINE_TOPICS, MACHINES
from harness.menu import Recipe
from harness.scenario.model import LineSettings

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

NEVER = -1
"""Stands in ``departures`` where a pizza does not pass a machine."""

_OVEN, _FREEZER, _PACKAGING = (
    MACHINE_TOPICS.index(topic) for topic in ("oven-machine", "freezer-machine", "packaging-machine")
)


@dataclass(frozen=True)
class Pizzas:
    """n pizzas in the order of their dispatch.

    ``release_us``: shape (n,), microseconds since the line's start (0 or more); no pizza is dispatched earlier.
    ``frozen``: shape (n,). ``work_us``: shape (n, 9), columns as MACHINE_TOPICS; the freezer's is not looked at for
    fresh pizzas.
    """

    release_us: Ints
    frozen: Bools
    work_us: Ints

    def __post_init__(self) -> None:
        n = len(self.release_us)
        if self.frozen.shape != (n,) or self.work_us.shape != (n, len(MACHINES)):
            raise ValueError(f"shapes differ: {self.release_us.shape}, {self.frozen.shape}, {self.work_us.shape}")
        if n and (self.release_us.min() < 0 or self.work_us.min() < 0):
            raise ValueError("release and work times are 0 or more")


def nominal_work_us(line: LineSettings, recipes: Sequence[Recipe]) -> Ints:
    """The work that the settings ask for: shape (recipes, 9), microseconds, columns as MACHINE_TOPICS."""
    rows = [
        [
            line.work_us(machine.topic, sum(len(getattr(recipe, kind)) for kind in machine.toppings))
            for machine in MACHINES
        ]
        for recipe in recipes
    ]
    return np.array(rows, dtype=np.int64).reshape(len(recipes), len(MACHINES))


def departures_us(pizzas: Pizzas, capacity: Mapping[str, int] | None) -> Ints:
    """When each pizza is dispatched and leaves each machine: shape (n, 10), microseconds since the line's start.

    Column 0 is the dispatch, column 1 + i the departure from MACHINE_TOPICS[i]; NEVER where a fresh pizza would
    have been frozen. ``capacity`` gives, per machine topic, how many pizzas one sender may have there; None is a
    line whose queues have no limit.
    """
    n = len(pizzas.release_us)
    limits = [n + 1 if capacity is None else capacity[topic] for topic in MACHINE_TOPICS]
    if min(limits) < 1:
        raise ValueError("a capacity is 1 or more")
    # Lists of plain ints: the loops below are about five times slower on numpy scalars.
    left: list[list[int]] = [[0] * n for _ in range(_OVEN + 1)]
    dispatched: list[int] = [0] * n
    tail = _Tail(limits[_FREEZER], limits[_PACKAGING])
    machines = [(i, left[i], left[i + 1], limits[i + 1]) for i in range(_OVEN)]
    first, first_limit, oven = left[0], limits[0], left[_OVEN]
    now = 0
    rows = zip(pizzas.release_us.tolist(), pizzas.frozen.tolist(), pizzas.work_us.tolist(), strict=True)
    for k, (release, frozen, work) in enumerate(rows):
        now = max(release, dispatched[k - 1] if k else 0)
        if k >= first_limit and first[k - first_limit] > now:
            now = first[k - first_limit]
        dispatched[k] = now
        for i, own, following, limit in machines:
            if k and own[k - 1] > now:
                now = own[k - 1]
            now += work[i]
            if k >= limit and following[k - limit] > now:
                now = following[k - limit]
            own[k] = now
        now = max(now, oven[k - 1] if k else 0) + work[_OVEN]
        if frozen:
            oven[k] = tail.frozen(k, now, work[_FREEZER], work[_PACKAGING])
        else:
            oven[k] = tail.fresh(k, now, work[_PACKAGING])
    tail.finish()

    out = np.full((n, 1 + len(MACHINES)), NEVER, dtype=np.int64)
    out[:, 0] = dispatched
    for i, column in enumerate(left):
        out[:, 1 + i] = column
    out[tail.frozen_pizzas, 1 + _FREEZER] = tail.freezer_left
    out[tail.frozen_pizzas, 1 + _PACKAGING] = tail.frozen_packed
    out[tail.fresh_pizzas, 1 + _PACKAGING] = tail.fresh_packed
    return out


class _Tail:
    """Freezer and packaging, told of the pizzas in the order in which the oven has finished them.

    Fresh pizzas are packed when they are told; frozen ones only when it is certain that no fresh pizza still to
    come would be served before them. Lists are indexed by the pizza's rank among the fresh or the frozen.
    """

    def __init__(self, freezer_limit: int, packaging_limit: int) -> None:
        self.frozen_pizzas: list[int] = []
        self.fresh_pizzas: list[int] = []
        self.freezer_left: list[int] = []
        self.frozen_packed: list[int] = []
        self.fresh_packed: list[int] = []
        self._freezer_limit = freezer_limit
        self._packaging_limit = packaging_limit
        self._frozen: list[tuple[int, int, int]] = []  # left the oven, work at the freezer, work at packaging
        self._packaging_free = 0

    def fresh(self, k: int, finished: int, packaging_work: int) -> int:
        """Returns when the oven hands the pizza over."""
        rank = len(self.fresh_packed)
        if rank >= self._packaging_limit:
            finished = max(finished, self.fresh_packed[rank - self._packaging_limit])
        # Frozen pizzas behind this one in the oven come to packaging later, so only those before it can be first.
        while len(self.frozen_packed) < len(self._frozen) and self._freezer_departure() <= finished:
            self._pack_frozen()
        self._packaging_free = max(self._packaging_free, finished) + packaging_work
        self.fresh_packed.append(self._packaging_free)
        self.fresh_pizzas.append(k)
        return finished

    def frozen(self, k: int, finished: int, freezer_work: int, packaging_work: int) -> int:
        """Returns when the oven hands the pizza over."""
        rank = len(self._frozen)
        before = rank - self._freezer_limit
        if before >= 0:
            # This pizza leaves the oven no earlier than ``before`` leaves the freezer, and so does every fresh one
            # to come: those that left the freezer ahead of ``before`` are packed first.
            while len(self.frozen_packed) < before:
                self._pack_frozen()
            finished = max(finished, self._departure_of(before))
        self._frozen.append((finished, freezer_work, packaging_work))
        self.frozen_pizzas.append(k)
        return finished

    def finish(self) -> None:
        while len(self.frozen_packed) < len(self._frozen):
            self._pack_frozen()

    def _departure_of(self, rank: int) -> int:
        """Of a pizza that is packed already, or the next to be."""
        return self.freezer_left[rank] if rank < len(self.freezer_left) else self._freezer_departure()

    def _freezer_departure(self) -> int:
        """Of the frozen pizza that is the next to be packed."""
        rank = len(self.frozen_packed)
        if rank == len(self.freezer_left):
            arrived, work, _ = self._frozen[rank]
            leaves = max(arrived, self.freezer_left[-1] if rank else 0) + work
            if rank >= self._packaging_limit:
                leaves = max(leaves, self.frozen_packed[rank - self._packaging_limit])
            self.freezer_left.append(leaves)
        return self.freezer_left[rank]

    def _pack_frozen(self) -> None:
        arrived = self._freezer_departure()
        self._packaging_free = max(self._packaging_free, arrived) + self._frozen[len(self.frozen_packed)][2]
        self.frozen_packed.append(self._packaging_free)


def makespan_us(pizzas: Pizzas, capacity: Mapping[str, int] | None) -> int:
    """From the line's start (time 0 of the releases) to the last departure; 0 without pizzas."""
    return int(departures_us(pizzas, capacity)[:, -1].max(initial=0))


def unlimited_makespan_us(pizzas: Pizzas) -> int:
    """The same on a line whose queues have no limit: what more capacity alone could reach."""
    return makespan_us(pizzas, None)


def releases_us(accepted_us: Ints, started_us: int) -> Ints:
    """Release times from the moments at which orders were accepted (epoch microseconds).

    Time 0 is ``started_us``: the ``order-processing`` record of the first order, where the measured makespan starts
    as well. An order accepted before that is released at 0. A real line dispatches no pizza before its order was
    accepted, so its dispatches satisfy these releases; and as the model waits for late orders just as the line
    does, time in which there was nothing to do stands in both makespans and is held against neither.
    """
    return np.maximum(accepted_us - started_us, 0)


def line_efficiency(model_makespan_us: int, measured_makespan_us: int) -> float | None:
    """Model over measured makespan, 1 being a line without any overhead; None if nothing was measured."""
    return model_makespan_us / measured_makespan_us if measured_makespan_us > 0 else None
