"""The line model against an event simulation, the textbook, and the original experiment's known figure."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.analysis.line_model import (
    NEVER,
    Pizzas,
    departures_us,
    line_efficiency,
    makespan_us,
    nominal_work_us,
    releases_us,
    unlimited_makespan_us,
)
from harness.line import MACHINE_TOPICS
from harness.menu import load_menu
from harness.scenario.model import LineSettings
from tests.unit.analysis.event_simulation import EventSimulation

ONE = dict.fromkeys(MACHINE_TOPICS, 1)
FREEZER = MACHINE_TOPICS.index("freezer-machine")


def equal_pizzas(n: int, work_us: list[int], *, frozen: bool = False) -> Pizzas:
    return Pizzas(np.zeros(n, dtype=np.int64), np.full(n, frozen), np.tile(np.array(work_us, dtype=np.int64), (n, 1)))


MIXED = st.booleans()
FRESH = st.just(False)


@st.composite
def lines(draw: st.DrawFn, *, kinds: st.SearchStrategy[bool] = MIXED, least_work: int = 1) -> Pizzas:
    n = draw(st.integers(1, 14))
    # Few distinct values make ties, where orders of service are easily got wrong.
    work = st.lists(st.integers(least_work, 7), min_size=9, max_size=9)
    return Pizzas(
        np.sort(np.array(draw(st.lists(st.integers(0, 60), min_size=n, max_size=n)), dtype=np.int64)),
        np.array(draw(st.lists(kinds, min_size=n, max_size=n))),
        np.array(draw(st.lists(work, min_size=n, max_size=n)), dtype=np.int64),
    )


capacities = st.fixed_dictionaries({topic: st.integers(1, 4) for topic in MACHINE_TOPICS})


@settings(max_examples=400, deadline=None)
@given(lines(), capacities)
def test_the_recursion_equals_the_event_simulation_on_lines_that_mix_fresh_and_frozen(
    pizzas: Pizzas, capacity: dict[str, int]
) -> None:
    assert departures_us(pizzas, capacity).tolist() == EventSimulation(pizzas, capacity).run()


@settings(max_examples=150, deadline=None)
@given(lines(kinds=FRESH, least_work=0), capacities)
def test_the_recursion_equals_the_event_simulation_on_fresh_lines_even_where_work_takes_no_time(
    pizzas: Pizzas, capacity: dict[str, int]
) -> None:
    assert departures_us(pizzas, capacity).tolist() == EventSimulation(pizzas, capacity).run()


@settings(max_examples=150, deadline=None)
@given(lines())
def test_without_limits_the_recursion_equals_the_event_simulation_without_limits(pizzas: Pizzas) -> None:
    assert departures_us(pizzas, None).tolist() == EventSimulation(pizzas, None).run()


@settings(deadline=None)
@given(st.integers(1, 30), st.lists(st.integers(0, 1000), min_size=9, max_size=9), st.booleans())
def test_equal_pizzas_take_the_sum_of_work_plus_a_slowest_step_for_each_further_one(
    n: int, work: list[int], frozen: bool
) -> None:
    visited = work if frozen else [w for i, w in enumerate(work) if i != FREEZER]
    textbook = sum(visited) + (n - 1) * max(visited)

    assert makespan_us(equal_pizzas(n, work, frozen=frozen), ONE) == textbook
    assert unlimited_makespan_us(equal_pizzas(n, work, frozen=frozen)) == textbook


@settings(deadline=None)
@given(lines(kinds=FRESH), capacities, st.sampled_from(MACHINE_TOPICS))
def test_a_fresh_line_never_gets_slower_by_more_capacity(pizzas: Pizzas, capacity: dict[str, int], topic: str) -> None:
    wider = capacity | {topic: capacity[topic] + 1}

    assert (departures_us(pizzas, wider) <= departures_us(pizzas, capacity)).all()
    assert unlimited_makespan_us(pizzas) <= makespan_us(pizzas, wider)


@settings(deadline=None)
@given(lines(kinds=FRESH), capacities, st.integers(0, 8), st.integers(0, 13), st.integers(1, 9))
def test_a_fresh_line_never_gets_faster_by_more_work(
    pizzas: Pizzas, capacity: dict[str, int], machine: int, pizza: int, more: int
) -> None:
    work = pizzas.work_us.copy()
    work[pizza % len(work), machine] += more

    slower = departures_us(Pizzas(pizzas.release_us, pizzas.frozen, work), capacity)

    assert (slower >= departures_us(pizzas, capacity)).all()


def test_a_hundred_fresh_pizzas_of_the_original_experiment_take_106_25_seconds() -> None:
    line, menu = LineSettings(), load_menu()
    work = nominal_work_us(line, [menu[0]])[0].tolist()

    assert makespan_us(equal_pizzas(100, work), ONE) == 106_250_000


def test_nominal_work_counts_the_toppings_that_each_machine_handles() -> None:
    line = LineSettings.model_validate(
        {
            "time_scale": 0.1,
            "machines": {
                "cheese-machine": {"work_ms": 100.0, "work_ms_per_topping": 10.0},
                "oven-machine": {"work_ms": 50.0, "work_ms_per_topping": 1.0},
            },
        }
    )
    salami = next(recipe for recipe in load_menu() if recipe.name == "salami")  # 1 cheese, 2 meat, 2 vegetables

    work = dict(zip(MACHINE_TOPICS, nominal_work_us(line, [salami])[0].tolist(), strict=True))

    assert work["cheese-machine"] == 11_000
    assert work["oven-machine"] == 5_500
    assert work["dough-machine"] == 100_000


def test_a_fresh_pizza_never_leaves_the_freezer() -> None:
    departures = departures_us(equal_pizzas(2, [5] * 9), ONE)

    assert departures[:, 1 + FREEZER].tolist() == [NEVER, NEVER]


def test_oven_blocks_for_the_freezer_only_with_a_frozen_pizza() -> None:
    work = [1] * 9
    work[FREEZER] = 100
    two_frozen = Pizzas(np.zeros(2, np.int64), np.array([True, True]), np.array([work, work]))
    frozen_then_fresh = Pizzas(np.zeros(2, np.int64), np.array([True, False]), np.array([work, work]))

    assert departures_us(two_frozen, ONE)[1, FREEZER].tolist() == 107  # when the first has left the freezer
    assert departures_us(frozen_then_fresh, ONE)[1, FREEZER].tolist() == 8  # at once, and overtakes
    assert departures_us(frozen_then_fresh, ONE)[:, -1].tolist() == [108, 9]


def test_time_without_orders_is_in_the_models_makespan_too() -> None:
    releases = releases_us(np.array([900, 1_000, 51_000]), started_us=1_000)
    assert releases.tolist() == [0, 0, 50_000]

    pizzas = Pizzas(releases, np.zeros(3, dtype=bool), np.full((3, 9), 10, dtype=np.int64))

    assert makespan_us(pizzas, ONE) == 50_080


def test_no_pizzas_take_no_time_and_no_measurement_gives_no_efficiency() -> None:
    assert makespan_us(equal_pizzas(0, [1] * 9), ONE) == 0
    assert line_efficiency(0, 0) is None
    assert line_efficiency(95, 100) == 0.95


@pytest.mark.parametrize(
    ("release", "work", "capacity"),
    [
        ([-1], [1] * 9, ONE),
        ([0], [-1] * 9, ONE),
        ([0], [1] * 8, ONE),
        ([0], [1] * 9, ONE | {"oven-machine": 0}),
    ],
)
def test_times_and_capacities_that_no_line_has_are_refused(
    release: list[int], work: list[int], capacity: dict[str, int]
) -> None:
    with pytest.raises(ValueError, match=r"shapes differ|0 or more|1 or more"):
        makespan_us(Pizzas(np.array(release), np.array([False]), np.array([work])), capacity)
