"""The schedule's laws, on any load."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from harness.load.schedule import PlannedOrder, schedule, warmup_schedule
from harness.scenario import BurstPhase, ConstantPhase, Load, OrderSpec, Phase, Warmup

specs = st.lists(
    st.builds(
        OrderSpec,
        size=st.integers(1, 10_000),
        count=st.integers(1, 20),
        recipe=st.sampled_from([None, "salami", "margherita"]),
    ),
    min_size=1,
    max_size=4,
).map(tuple)
pauses = st.floats(0, 1000, allow_subnormal=False)
rates = st.floats(0.001, 1_000_000)
bursts = st.builds(BurstPhase, arrivals=st.just("burst"), start_after_s=pauses, orders=specs)
constants = st.builds(ConstantPhase, arrivals=st.just("constant"), start_after_s=pauses, rate_per_s=rates, orders=specs)
phases = st.one_of(bursts, constants)
loads = st.lists(phases, min_size=1, max_size=4).map(lambda several: Load(phases=tuple(several)))


def wanted(phase: Phase) -> list[tuple[int, str | None]]:
    return [(spec.size, spec.recipe) for spec in phase.orders for _ in range(spec.count)]


def of_phase(planned: tuple[PlannedOrder, ...], number: int) -> list[PlannedOrder]:
    return [order for order in planned if order.phase == number]


@given(loads)
def test_every_order_of_the_file_appears_once_and_in_its_place(load: Load) -> None:
    planned = schedule(load)
    for number, phase in enumerate(load.phases):
        assert [(order.size, order.recipe) for order in of_phase(planned, number)] == wanted(phase)
    assert len(planned) == sum(len(wanted(phase)) for phase in load.phases)


@given(loads)
def test_orders_are_numbered_in_the_sequence_of_their_due_times(load: Load) -> None:
    planned = schedule(load)
    assert [order.index for order in planned] == list(range(len(planned)))
    assert planned[0].due_us >= 0
    assert all(one.due_us <= next_one.due_us and one.phase <= next_one.phase for one, next_one in pairwise(planned))


@given(loads)
def test_a_phase_starts_its_pause_after_the_last_order_of_the_phase_before(load: Load) -> None:
    planned = schedule(load)
    end_us = 0
    for number, phase in enumerate(load.phases):
        orders = of_phase(planned, number)
        assert abs(orders[0].due_us - end_us - phase.start_after_s * 1_000_000) <= 0.51
        end_us = orders[-1].due_us


@given(bursts)
def test_all_orders_of_a_burst_are_due_at_once(phase: BurstPhase) -> None:
    assert len({order.due_us for order in schedule(Load(phases=(phase,)))}) == 1


@given(constants)
def test_order_k_of_a_constant_rate_is_due_at_k_over_rate_exactly_rounded(phase: ConstantPhase) -> None:
    planned = schedule(Load(phases=(phase,)))
    gap_us = 1_000_000 / Fraction(repr(phase.rate_per_s))
    assert [order.due_us - planned[0].due_us for order in planned] == [round(k * gap_us) for k in range(len(planned))]


def test_a_constant_rate_does_not_drift_over_many_orders() -> None:
    phase = ConstantPhase(arrivals="constant", rate_per_s=0.3, orders=(OrderSpec(size=1, count=300_001),))
    assert schedule(Load(phases=(phase,)))[-1].due_us == 1_000_000 * 1_000_000


@given(loads)
def test_the_same_load_gives_the_same_schedule(load: Load) -> None:
    assert schedule(load) == schedule(Load.model_validate(load.model_dump()))


@given(specs)
def test_the_warm_up_is_due_at_once_in_the_sequence_of_the_file(orders: tuple[OrderSpec, ...]) -> None:
    planned = warmup_schedule(Warmup(orders=orders))
    assert [(order.size, order.recipe) for order in planned] == [
        (spec.size, spec.recipe) for spec in orders for _ in range(spec.count)
    ]
    assert [(order.index, order.due_us) for order in planned] == [(index, 0) for index in range(len(planned))]


def test_no_warm_up_orders_nothing() -> None:
    assert warmup_schedule(Warmup()) == ()
