"""Where each pizza's time went: one row per pizza and machine, and the parts that add up to its latency."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from harness.line import MACHINE_TOPICS, MACHINES
from harness.measure.events import MISSING, Events, Ints, distinct, header_us, ids
from harness.measure.facts import Facts

pc: Any = pyarrow.compute

TIMES = ("arrived_us", "started_us", "finished_us", "handed_off_us")
PARTS = ("transport_us", "wait_us", "work_us", "blocked_us")

STAGES_SCHEMA = pa.schema(
    [
        ("pizza_id", pa.int64()),
        ("order_id", pa.int64()),
        ("machine", pa.dictionary(pa.int32(), pa.string())),
        ("visit", pa.int64()),
        ("sent_us", pa.int64()),
        *((name, pa.int64()) for name in TIMES),
        ("censored", pa.bool_()),
    ]
)
"""By pizza, then by visit (1 is the first machine of its way). Times are epoch microseconds.

``sent_us`` is when the record that brought the pizza was sent; the others come from the machine's ``-done`` record.
``censored`` marks stages with a time missing: not left yet, or signalled again after a crash, which keeps no times.
``order_id`` is null for pizzas that no order holds.
"""

_FREEZER, _PACKAGING = MACHINE_TOPICS.index("freezer-machine"), MACHINE_TOPICS.index("packaging-machine")


def read_stages(events: Events, facts: Facts) -> pa.Table:
    """Every visit of a pizza to a machine that the topics show, in the STAGES_SCHEMA.

    Where a pizza was brought twice, the first record counts; where it was signalled twice, the first with times.
    """
    columns: list[dict[str, Ints]] = []
    for machine in range(len(MACHINES)):
        columns.append(_visits(events, facts, machine))
    joined = {name: np.concatenate([part[name] for part in columns]) for name in columns[0]}
    frozen = np.unique(columns[_FREEZER]["pizza_id"])
    visit = joined["machine"] + 1
    visit[(joined["machine"] == _PACKAGING) & ~np.isin(joined["pizza_id"], frozen)] -= 1
    order = np.lexsort((joined["machine"], joined["pizza_id"]))
    joined = {name: column[order] for name, column in joined.items()}
    visit = visit[order]
    order_ids = facts.orders.orders_of(joined["pizza_id"])
    censored = np.zeros(len(order), dtype=np.bool_)
    for name in TIMES:
        censored |= joined[name] == MISSING
    return pa.table(
        {
            "pizza_id": joined["pizza_id"],
            "order_id": pa.array(order_ids, mask=order_ids == 0),
            "machine": pa.DictionaryArray.from_arrays(joined["machine"].astype(np.int32), list(MACHINE_TOPICS)),
            "visit": visit,
            **{name: pa.array(joined[name], mask=joined[name] == MISSING) for name in ("sent_us", *TIMES)},
            "censored": censored,
        },
        schema=STAGES_SCHEMA,
    )


def _visits(events: Events, facts: Facts, machine: int) -> dict[str, Ints]:
    topic, done_topic = MACHINES[machine].topic, MACHINES[machine].done_topic
    brought = facts.sightings[topic]
    brought_ids, first = distinct(brought.ids)

    signalled = ids(events, done_topic, "pizzaId")
    headers = events.topic(done_topic, ["headers"])
    times = {name: header_us(headers, name.replace("_", "-")) for name in TIMES}
    timeless = times["arrived_us"] == MISSING
    # Those with times first, then by offset: the first of each pizza is the one to keep.
    order = np.lexsort((np.arange(len(signalled)), timeless))
    order = order[signalled[order] != MISSING]
    signalled_ids, kept = distinct(signalled[order])
    kept = order[kept]

    same = np.array_equal(brought_ids, signalled_ids)
    pizza_ids = brought_ids if same else np.union1d(brought_ids, signalled_ids)
    out = {name: np.full(len(pizza_ids), MISSING, dtype=np.int64) for name in ("sent_us", *TIMES)}
    out["sent_us"][np.searchsorted(pizza_ids, brought_ids)] = brought.at_us[first]
    rows = np.searchsorted(pizza_ids, signalled_ids)
    for name in TIMES:
        out[name][rows] = times[name][kept]
    return {"pizza_id": pizza_ids, "machine": np.full(len(pizza_ids), machine), **out}


def parts(stages: pa.Table) -> pa.Table:
    """The columns PARTS for each row of ``stages``, in microseconds.

    transport: from the previous machine's hand-over (before the first: from the dispatch) to the arrival; wait: to
    the start of work; work: to its end; blocked: to the hand-over. Over a pizza's whole way they add up to its last
    hand-over minus its dispatch, with nothing left over. Null where one of the two times is missing. A negative part
    (clocks, or a record that arrived before its sender had the acknowledgement) stays as it is.
    """
    pizza = stages["pizza_id"].to_numpy()
    visit = stages["visit"].to_numpy()
    left = _filled(stages["handed_off_us"])
    follows = np.zeros(len(pizza), dtype=np.bool_)
    follows[1:] = (pizza[1:] == pizza[:-1]) & (visit[1:] == visit[:-1] + 1)
    before = np.full(len(pizza), MISSING, dtype=np.int64)
    before[follows] = left[np.flatnonzero(follows) - 1]
    before = np.where(visit == 1, _filled(stages["sent_us"]), before)
    moments = [before, *(_filled(stages[name]) for name in TIMES)]
    return pa.table(
        {
            name: pa.array(to - since, mask=(since == MISSING) | (to == MISSING))
            for name, since, to in zip(PARTS, moments[:-1], moments[1:], strict=True)
        }
    )


def negative_parts(table: pa.Table) -> dict[str, int]:
    """How many of each of the PARTS are below zero."""
    return {name: int(pc.sum(pc.less(table[name], 0)).as_py() or 0) for name in PARTS}


def _filled(column: Any) -> NDArray[np.int64]:
    values: NDArray[np.int64] = pc.fill_null(column, MISSING).to_numpy()
    return values
