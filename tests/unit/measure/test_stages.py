"""Stages against what is true of a simulated line, and the law that their parts leave nothing over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.line import MACHINE_TOPICS
from harness.measure.events import EventsTable
from harness.measure.facts import read_facts
from harness.measure.stages import PARTS, STAGES_SCHEMA, TIMES, negative_parts, parts, read_stages
from harness.scenario.model import LineSettings
from tests.simulated_line import MENU, Faults, SimulatedLine, SimulatedOrder, simulate

FROZEN_PIZZA = 1 + next(i for i, recipe in enumerate(MENU) if recipe.frozen)
FAST = LineSettings(time_scale=0.01)


def stages_of(line: SimulatedLine) -> pa.Table:
    events = EventsTable(line.events)
    return read_stages(events, read_facts(events))


def rows_of(table: pa.Table, pizza: int, machine: str | None = None) -> list[dict[str, Any]]:
    return [
        row for row in table.to_pylist() if row["pizza_id"] == pizza and machine in (None, row["machine"])
    ]  # fmt: skip


def test_stages_hold_exactly_the_times_that_were_true() -> None:
    line = simulate([SimulatedOrder(4), SimulatedOrder(6, accepted_us=30_000)], line=FAST, transport_us=700)
    stages = stages_of(line)

    assert stages.schema == STAGES_SCHEMA
    assert len(stages) == 10 * 8 + line.frozen.sum()
    for row in stages.to_pylist():
        place = row["pizza_id"] - 1, MACHINE_TOPICS.index(row["machine"])
        truth = [getattr(line, name)[place] for name in ("sent_us", *TIMES)]
        assert [row[name] for name in ("sent_us", *TIMES)] == truth
        assert row["order_id"] == (1 if row["pizza_id"] <= 4 else 2)
        assert not row["censored"]


def test_visits_count_up_along_each_pizzas_own_way() -> None:
    stages = stages_of(simulate([SimulatedOrder(FROZEN_PIZZA)]))

    fresh, frozen = rows_of(stages, 1), rows_of(stages, FROZEN_PIZZA)
    assert [row["machine"] for row in frozen] == list(MACHINE_TOPICS)
    assert [row["visit"] for row in frozen] == list(range(1, 10))
    assert [row["machine"] for row in fresh] == [topic for topic in MACHINE_TOPICS if topic != "freezer-machine"]
    assert [row["visit"] for row in fresh] == list(range(1, 9))


@st.composite
def runs(draw: st.DrawFn) -> SimulatedLine:
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    orders = [SimulatedOrder(size, accepted_us=draw(st.integers(0, 200_000))) for size in sizes]
    line = LineSettings(time_scale=0.001, capacity=draw(st.integers(1, 3)))
    return simulate(orders, line=line, transport_us=draw(st.integers(0, 3_000)))


@settings(max_examples=30, deadline=None)
@given(runs())
def test_the_parts_of_a_pizza_add_up_to_its_time_in_the_line_with_nothing_left_over(line: SimulatedLine) -> None:
    stages = stages_of(line)
    table = parts(stages)

    assert negative_parts(table) == dict.fromkeys(PARTS, 0)
    total = sum(table[name].to_numpy() for name in PARTS)
    per_pizza = np.bincount(stages["pizza_id"].to_numpy() - 1, weights=total)
    assert per_pizza.tolist() == (line.handed_off_us[:, -1] - line.sent_us[:, 0]).tolist()


def test_planted_delays_turn_up_in_their_part_at_their_machine() -> None:
    late, slow = ("sauce-machine", 2), ("oven-machine", 3)
    faults = Faults(transport_us={late: 7_000}, work_us={slow: 9_000})
    orders = [SimulatedOrder(4)]

    as_planned = with_parts(stages_of(simulate(orders, line=FAST)))
    delayed = with_parts(stages_of(simulate(orders, line=FAST, faults=faults)))

    def more(part: str, place: tuple[str, int]) -> int:
        (before,), (after,) = (rows_of(table, place[1], place[0]) for table in (as_planned, delayed))
        return int(after[part] - before[part])

    assert more("transport_us", late) == 7_000
    assert more("work_us", slow) == 9_000
    # The fourth pizza finds both in its way: what it loses, it loses waiting or blocked, not working.
    assert all(more("work_us", (topic, 4)) == 0 for topic in MACHINE_TOPICS if topic != "freezer-machine")


def with_parts(stages: pa.Table) -> pa.Table:
    table = parts(stages)
    for name in PARTS:
        stages = stages.append_column(name, table[name])
    return stages


def test_a_recovered_signal_censors_its_stage_and_the_next_ones_transport() -> None:
    stages = with_parts(stages_of(simulate([SimulatedOrder(3)], faults=Faults(recovered=[("meat-machine", 2)]))))

    (meat,) = rows_of(stages, 2, "meat-machine")
    (following,) = rows_of(stages, 2, "vegetables-machine")
    assert meat["censored"]
    assert meat["sent_us"] is not None
    assert [meat[name] for name in (*TIMES, *PARTS)] == [None] * 8
    assert not following["censored"]
    assert following["transport_us"] is None
    assert following["work_us"] is not None
    assert sum(row["censored"] for row in stages.to_pylist()) == 1


def test_a_pizza_that_did_not_leave_has_a_censored_stage_where_it_stayed() -> None:
    stages = stages_of(simulate([SimulatedOrder(3)], faults=Faults(lost={2: "cheese-machine"})))

    rows = rows_of(stages, 2)
    assert [row["machine"] for row in rows] == list(MACHINE_TOPICS[:4])
    assert [row["censored"] for row in rows] == [False, False, False, True]


def test_of_two_signals_the_one_with_times_counts() -> None:
    sound = simulate([SimulatedOrder(2)])
    repeated = simulate([SimulatedOrder(2)], faults=Faults(recovered=[("oven-machine", 1)]))
    both = pa.concat_tables([repeated.events, sound.events])

    events = EventsTable(both)
    stages = read_stages(events, read_facts(events))

    (oven,) = rows_of(stages, 1, "oven-machine")
    assert not oven["censored"]
    assert oven["started_us"] == sound.started_us[0, MACHINE_TOPICS.index("oven-machine")]


def test_negative_parts_are_kept_and_counted() -> None:
    stages = stages_of(simulate([SimulatedOrder(2)]))
    early = shifted(stages, "arrived_us", [-5, *[0] * (len(stages) - 1)])

    table = parts(early)

    assert table["transport_us"][0].as_py() == -5
    assert negative_parts(table) == {"transport_us": 1, "wait_us": 0, "work_us": 0, "blocked_us": 0}


def shifted(stages: pa.Table, name: str, by: Sequence[int]) -> pa.Table:
    column = pa.array(stages[name].to_numpy() + np.array(by, dtype=np.int64))
    return stages.set_column(stages.schema.get_field_index(name), name, column)
