"""When every order is due: a pure function of the scenario, computed before the first order is sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

from harness.scenario import ConstantPhase, Load, OrderSpec, Phase, Warmup


@dataclass(frozen=True, slots=True)
class PlannedOrder:
    """One order to come. ``due_us`` counts from the load's start, ``phase`` is its place in the scenario."""

    index: int
    due_us: int
    size: int
    recipe: str | None
    phase: int


def schedule(load: Load) -> tuple[PlannedOrder, ...]:
    """Every order of the load, sorted by due time and numbered in that order.

    A phase starts ``start_after_s`` after the last due time of the phase before it.
    """
    planned: list[PlannedOrder] = []
    end_us = 0
    for number, phase in enumerate(load.phases):
        start_us = end_us + _microseconds(phase.start_after_s)
        for spec, offset_us in zip(_one_by_one(phase.orders), _offsets_us(phase), strict=False):
            end_us = start_us + offset_us
            planned.append(PlannedOrder(len(planned), end_us, spec.size, spec.recipe, number))
    return tuple(planned)


def warmup_schedule(warmup: Warmup) -> tuple[PlannedOrder, ...]:
    """The warm-up orders, all due at once. Numbered apart from the load."""
    return tuple(
        PlannedOrder(index, 0, spec.size, spec.recipe, 0) for index, spec in enumerate(_one_by_one(warmup.orders))
    )


def _one_by_one(specs: Iterable[OrderSpec]) -> Iterator[OrderSpec]:
    for spec in specs:
        for _ in range(spec.count):
            yield spec


def _offsets_us(phase: Phase) -> Iterator[int]:
    """Due times from the phase's start, without end. Each is rounded by itself, so that no error adds up."""
    gap_us = 1_000_000 / _exactly(phase.rate_per_s) if isinstance(phase, ConstantPhase) else Fraction(0)
    order = 0
    while True:
        yield round(order * gap_us)
        order += 1


def _microseconds(seconds: float) -> int:
    return round(_exactly(seconds) * 1_000_000)


def _exactly(number: float) -> Fraction:
    """The decimal that the file says: 0.1 is a tenth, not the float beside it."""
    return Fraction(repr(number))
