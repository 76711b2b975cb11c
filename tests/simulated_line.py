"""A line on paper: the records that a line would have written for given orders, with faults planted on request.

Times come from the line model plus a transport time per hop, so they keep every rule of the real line: capacity,
blocking, one pizza at a time, packaging in order of arrival. Vectorised: 1,000,000 pizzas take some seconds.

    line = simulate([SimulatedOrder(3), SimulatedOrder(2, ("salami",), accepted_us=50_000)],
                    faults=Faults(lost={4: "oven-machine"}))
    line.events          # a table in the EVENTS_SCHEMA, topic by topic
    line.arrived_us      # what is true, per machine and pizza, to compare with
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from harness.analysis.line_model import NEVER, Pizzas, departures_us, nominal_work_us
from harness.line import ALL_TOPICS, DEAD_LETTER, MACHINE_TOPICS, MACHINES
from harness.measure.events import EVENTS_SCHEMA
from harness.measure.orders import OrderBook
from harness.menu import Recipe, load_menu
from harness.scenario.model import LineSettings

pc: Any = pyarrow.compute
Ints = NDArray[np.int64]

START_US = 1_763_000_000_000_000
"""The epoch microsecond at which the simulated runs begin."""

MENU = load_menu()
PACKAGING = MACHINE_TOPICS.index("packaging-machine")
FREEZER = MACHINE_TOPICS.index("freezer-machine")


@dataclass(frozen=True)
class SimulatedOrder:
    """``accepted_us`` counts from START_US."""

    size: int
    recipes: tuple[str, ...] | None = None
    accepted_us: int = 0


@dataclass(frozen=True)
class Faults:
    """What goes wrong. Topics are machine topics unless said otherwise; pizzas and orders are named by id.

    ``lost``: pizza -> the last topic where it is seen ("order-stack": never dispatched). ``dead_lettered``: pizza ->
    the machine topic on which its record is broken. ``duplicated``: any topic -> ids (pizza or order) whose record
    stands there twice. ``recovered``: (machine topic, pizza) whose -done has no times. ``transport_us``: (machine
    topic, pizza) -> additional time on the way there; ``work_us`` likewise for its work. ``unknown_done``: ids on
    pizza-done that no order holds. ``broken_orders``: positions in the list of orders whose record is garbage.
    ``garbage``: machine topic -> number of dead-lettered records that are no JSON and claim nothing.
    ``unfinished``: orders without order-done although their pizzas are.
    """

    lost: Mapping[int, str] = field(default_factory=dict)
    dead_lettered: Mapping[int, str] = field(default_factory=dict)
    duplicated: Mapping[str, Sequence[int]] = field(default_factory=dict)
    recovered: Sequence[tuple[str, int]] = ()
    transport_us: Mapping[tuple[str, int], int] = field(default_factory=dict)
    work_us: Mapping[tuple[str, int], int] = field(default_factory=dict)
    unknown_done: Sequence[int] = ()
    broken_orders: Sequence[int] = ()
    garbage: Mapping[str, int] = field(default_factory=dict)
    unfinished: Sequence[int] = ()


@dataclass(frozen=True)
class SimulatedLine:
    """``events`` as recorded. The other columns are the truth for each pizza by id (row 0 is pizza 1), epoch us.

    ``sent_us``, ``arrived_us``, ``started_us``, ``finished_us``, ``handed_off_us`` have a column per machine in the
    order of MACHINE_TOPICS, NEVER where the pizza does not go. Faults that remove records do not change them.
    """

    events: pa.Table
    orders: OrderBook
    frozen: NDArray[np.bool_]
    sent_us: Ints
    arrived_us: Ints
    started_us: Ints
    finished_us: Ints
    handed_off_us: Ints
    order_started_us: dict[int, int]
    order_done_us: dict[int, int]


def simulate(
    orders: Sequence[SimulatedOrder],
    *,
    line: LineSettings | None = None,
    transport_us: int = 0,
    faults: Faults | None = None,
) -> SimulatedLine:
    """The records of a run of ``orders``, which are accepted in the order of the list."""
    line, faults = line or LineSettings(), faults or Faults()
    broken = [b"{not json" if i in faults.broken_orders else _stack_value(o) for i, o in enumerate(orders)]
    accepted = [START_US + order.accepted_us for order in orders]
    book = OrderBook.read(range(len(orders)), broken, accepted)
    recipes = book.recipe_numbers([recipe.name for recipe in MENU])
    frozen = np.array([recipe.frozen for recipe in MENU])[recipes]

    work = nominal_work_us(line, MENU)[recipes]
    transport = np.full_like(work, transport_us)
    for times, planted in ((work, faults.work_us), (transport, faults.transport_us)):
        for (topic, pizza), more_us in planted.items():
            times[pizza - 1, MACHINE_TOPICS.index(topic)] += more_us
    release = np.repeat(book.accepted_us, book.sizes) - START_US
    capacity = {topic: line.capacity_of(topic) for topic in MACHINE_TOPICS}
    # The way to a machine is spent as if it were work there: the rules then hold with transport included.
    departures = departures_us(Pizzas(release, frozen, work + transport), capacity)
    visits = departures[:, 1:] != NEVER

    sent = departures[:, :-1].copy()
    sent[~frozen, PACKAGING] = departures[~frozen, PACKAGING - 1]
    free = np.zeros_like(sent)
    for machine in range(len(MACHINES)):
        here = np.flatnonzero(visits[:, machine])
        order = here[np.argsort(sent[here, machine], kind="stable")]
        free[order[1:], machine] = departures[order[:-1], 1 + machine]
    started = np.maximum(sent, free) + transport
    truth = [sent, sent + transport, started, started + work, departures[:, 1:]]
    moments = [np.where(visits, START_US + column, NEVER) for column in truth]

    first = book.first_pizzas - 1
    starts = dict(zip(book.order_ids.tolist(), moments[0][first, 0].tolist(), strict=True))
    latest = np.maximum.reduceat(moments[4][:, PACKAGING], first) if len(first) else first
    ends = dict(zip(book.order_ids.tolist(), latest.tolist(), strict=True))
    writer = _Writer(book, recipes, frozen, visits, moments, faults)
    tables = writer.order_topics(broken, accepted, starts, ends) | writer.pizza_topics()
    dead = writer.dead_letters(tables)
    events = pa.concat_tables([_finish(topic, tables | {DEAD_LETTER: dead}) for topic in ALL_TOPICS])
    sent_us, arrived_us, started_us, finished_us, handed_off_us = moments
    return SimulatedLine(
        events, book, frozen, sent_us, arrived_us, started_us, finished_us, handed_off_us, starts, ends
    )


def _stack_value(order: SimulatedOrder) -> bytes:
    recipes = list(order.recipes) if order.recipes is not None else None
    accepted_ms = (START_US + order.accepted_us) // 1000
    return orjson.dumps({"orderSize": order.size, "recipes": recipes, "acceptedTimestamp": accepted_ms})


def _finish(topic: str, tables: Mapping[str, pa.Table]) -> pa.Table:
    """Sort by time and number the records."""
    table = tables[topic].sort_by([("us", "ascending")]) if topic in tables else _records([], [], {}, np.empty(0))
    n = len(table)
    columns = {
        "topic": pa.array([topic]).dictionary_encode().take(pa.array(np.zeros(n), pa.int64())),
        "partition": pa.array(np.zeros(n, dtype=np.int32)),
        "offset": pa.array(np.arange(n, dtype=np.int64)),
        "timestamp": pc.divide(table["us"].combine_chunks(), 1000).cast(pa.timestamp("ms", tz="UTC")),
        **{name: table[name] for name in ("key", "value", "headers")},
    }
    return pa.table(columns).cast(EVENTS_SCHEMA)


def _records(keys: Any, values: Any, headers: Mapping[str, Any], us: Any) -> pa.Table:
    """Records with the same headers; every argument is a column of text, bytes or integers."""
    n = len(keys)
    texts = [_bytes(np.asarray(column)) for column in headers.values()]
    flat = pa.concat_arrays([pa.array([], pa.binary()), *texts])
    interleaved = np.arange(n * len(texts)).reshape(len(texts), n).T.ravel()
    names = pa.array(list(headers), pa.string()).take(pa.array(np.tile(np.arange(len(texts)), n), pa.int64()))
    structs = pa.StructArray.from_arrays([names, flat.take(pa.array(interleaved, pa.int64()))], names=["key", "value"])
    offsets = pa.array(np.arange(n + 1) * len(texts), pa.int32())
    return pa.table(
        {
            "key": _bytes(keys),
            "value": _bytes(values),
            "headers": pa.ListArray.from_arrays(offsets, structs),
            "us": pa.array(np.asarray(us, dtype=np.int64)),
        }
    )


def _bytes(column: Any) -> pa.Array[Any]:
    if isinstance(column, pa.Array):
        return column.cast(pa.binary())
    if isinstance(column, np.ndarray) and column.dtype.kind == "i":
        return pa.array(column).cast(pa.string()).cast(pa.binary())
    return pa.array([text.encode() if isinstance(text, str) else text for text in column], pa.binary())


def _join(*parts: Any) -> pa.Array[Any]:
    """Text columns and constants, row by row."""
    columns = [pa.array(part).cast(pa.string()) if isinstance(part, np.ndarray) else part for part in parts]
    joined: pa.Array[Any] = pc.binary_join_element_wise(*columns, "")
    return joined


class _Writer:
    def __init__(
        self,
        book: OrderBook,
        recipes: Ints,
        frozen: NDArray[np.bool_],
        visits: NDArray[np.bool_],
        times: list[Ints],
        faults: Faults,
    ) -> None:
        self.book, self.recipes, self.frozen, self.visits, self.faults = book, recipes, frozen, visits, faults
        self.sent, self.arrived, self.started, self.finished, self.handed_off = times
        self.pizzas = np.arange(1, book.pizzas + 1)
        self.order_ids = book.orders_of(self.pizzas)
        self.order_sizes = np.repeat(book.sizes, book.sizes)
        # How far each pizza gets: a sound record up to this machine; -1 is not even dispatched.
        self.reaches = np.full(book.pizzas, PACKAGING + 1)
        for pizza, topic in faults.lost.items():
            self.reaches[pizza - 1] = MACHINE_TOPICS.index(topic) if topic in MACHINE_TOPICS else -1
        self.broken_at = np.full(book.pizzas, PACKAGING + 2)
        for pizza, topic in faults.dead_lettered.items():
            self.broken_at[pizza - 1] = MACHINE_TOPICS.index(topic)
            self.reaches[pizza - 1] = MACHINE_TOPICS.index(topic) - 1

    def order_topics(
        self, stack: Sequence[bytes], accepted: Sequence[int], starts: Mapping[int, int], ends: Mapping[int, int]
    ) -> dict[str, pa.Table]:
        sizes = dict(zip(self.book.order_ids.tolist(), self.book.sizes.tolist(), strict=True))
        dispatched = set(self.order_ids[(self.reaches >= 0) | (self.broken_at <= PACKAGING)].tolist())
        started = [order for order in starts if order in dispatched]
        incomplete = set(self.order_ids[self.reaches <= PACKAGING].tolist()) | set(self.faults.unfinished)
        done = [order for order in ends if order not in incomplete]
        start_us, end_us = [starts[order] for order in started], [ends[order] for order in done]
        start_values = [
            orjson.dumps({"orderId": order, "orderSize": sizes[order], "startTimestamp": us // 1000})
            for order, us in zip(started, start_us, strict=True)
        ]
        end_values = [
            orjson.dumps({"orderId": order, "endTimestamp": us // 1000}) for order, us in zip(done, end_us, strict=True)
        ]
        at = np.array(accepted, dtype=np.int64)
        # order-stack keeps its order: offset + 1 is the order id.
        return {
            "order-stack": _records([None] * len(stack), list(stack), {"at-us": at}, np.maximum.accumulate(at)),
            "order-processing": self._twice(
                "order-processing", np.array(started, dtype=np.int64), start_values,
                {"at-us": np.array(start_us, dtype=np.int64)}, start_us,
            ),
            "order-done": self._twice(
                "order-done", np.array(done, dtype=np.int64), end_values,
                {"at-us": np.array(end_us, dtype=np.int64)}, end_us,
            ),
        }  # fmt: skip

    def pizza_topics(self) -> dict[str, pa.Table]:
        tables = {}
        for i, machine in enumerate(MACHINES):
            here = self.visits[:, i] & (self.reaches >= i)
            tables[machine.topic] = self._twice(machine.topic, *self._pizza_records(i, np.flatnonzero(here)))
            spoiled = np.flatnonzero(self.visits[:, i] & (self.broken_at == i))
            tables[machine.topic] = pa.concat_tables([tables[machine.topic], self._broken(i, spoiled)])
            # A pizza that is lost at a machine is not signalled there.
            left = here & (self.reaches > i)
            left |= here & np.isin(self.broken_at, self._following(i))
            tables[machine.done_topic] = self._signals(i, np.flatnonzero(left), spoiled)
        done = np.flatnonzero(self.reaches > PACKAGING)
        us = self.handed_off[done, PACKAGING]
        values = _join(
            '{"orderId":', self.order_ids[done], ',"orderSize":', self.order_sizes[done],
            ',"pizzaId":', self.pizzas[done], ',"endTimestamp":', us // 1000, "}",
        )  # fmt: skip
        origin = ["packaging-machine"] * len(done)
        tables["pizza-done"] = self._twice(
            "pizza-done", self.pizzas[done], values, {"from": np.array(origin, dtype=object), "at-us": us}, us
        )
        extra = np.array(self.faults.unknown_done, dtype=np.int64)
        extra_us = np.full(len(extra), us.max(initial=START_US))
        extra_values = _join('{"orderId":1,"orderSize":1,"pizzaId":', extra, ',"endTimestamp":', extra_us // 1000, "}")
        unknown = _records(extra, extra_values, {"at-us": extra_us}, extra_us)
        tables["pizza-done"] = pa.concat_tables([tables["pizza-done"], unknown])
        return tables

    def dead_letters(self, tables: Mapping[str, pa.Table]) -> pa.Table:
        letters = []
        for topic in {"order-stack", *self.faults.dead_lettered.values(), *self.faults.garbage}:
            table = tables[topic]
            sorted_table = table.sort_by([("us", "ascending")])
            keys, times = sorted_table["key"].to_pylist(), sorted_table["us"].to_pylist()
            values: list[Any] = sorted_table["value"].to_pylist()
            for offset, value in enumerate(values):
                if not value.startswith(b'{"'):
                    key, us = keys[offset], times[offset]
                    machine = "order-processing" if topic == "order-stack" else topic
                    headers = {
                        "topic": [topic], "offset": [str(offset)], "reason": ["not JSON"],
                        "size": [str(len(value))], "machine": [machine], "at-us": [str(us)],
                    }  # fmt: skip
                    letters.append(_records([key], [value], headers, [us]))
        return pa.concat_tables([_records([], [], {}, []), *letters])

    def _following(self, machine: int) -> list[int]:
        return [MACHINE_TOPICS.index(topic) for topic in MACHINES[machine].next_topics if topic in MACHINE_TOPICS]

    def _twice(self, topic: str, keys: Any, values: Any, headers: Mapping[str, Any], us: Any) -> pa.Table:
        """The records, those with a duplicated key a second time a millisecond later."""
        table = _records(keys, values, headers, us)
        rows = np.flatnonzero(np.isin(keys, list(self.faults.duplicated.get(topic, ()))))
        again = table.take(pa.array(rows, pa.int64()))
        again = again.set_column(3, "us", pc.add(again["us"], 1000))
        return pa.concat_tables([table, again])

    def _pizza_records(self, machine: int, rows: Ints) -> tuple[Ints, pa.Array[Any], dict[str, Any], Ints]:
        us = self.sent[rows, machine]
        applied = pa.array([_applied(recipe, machine) for recipe in MENU]).take(
            pa.array(self.recipes[rows], pa.int64())
        )
        values = _join(
            '{"pizzaId":', self.pizzas[rows], ',"orderId":', self.order_ids[rows], ',"orderSize":',
            self.order_sizes[rows], ',"startTimestamp":', self.sent[rows, 0] // 1000, ',"endTimestamp":null,', applied,
        )  # fmt: skip
        before = np.full(len(rows), MACHINE_TOPICS[machine - 1] if machine else "order-processing", dtype=object)
        if machine == PACKAGING:
            before[~self.frozen[rows]] = "oven-machine"
        return self.pizzas[rows], values, {"from": before, "at-us": us}, us

    def _broken(self, machine: int, rows: Ints) -> pa.Table:
        topic = MACHINE_TOPICS[machine]
        us = self.sent[rows, machine]
        own = _records(self.pizzas[rows], [b"{broken"] * len(rows), {"from": ["someone"] * len(rows), "at-us": us}, us)
        count = self.faults.garbage.get(topic, 0)
        garbage_us = np.full(count, START_US)
        return pa.concat_tables([own, _records([None] * count, [b"\xff garbage"] * count, {}, garbage_us)])

    def _signals(self, machine: int, left: Ints, spoiled: Ints) -> pa.Table:
        topic = MACHINE_TOPICS[machine]
        planted = {pizza for at, pizza in self.faults.recovered if at == topic}
        timeless = np.isin(self.pizzas[left], list(planted))
        timed, recovered = left[~timeless], np.concatenate([left[timeless], spoiled])
        headers = {
            "machine": np.full(len(timed), topic, dtype=object),
            "arrived-us": self.arrived[timed, machine],
            "started-us": self.started[timed, machine],
            "finished-us": self.finished[timed, machine],
            "handed-off-us": self.handed_off[timed, machine],
        }
        us = self.handed_off[:, machine]
        sound = self._twice(f"{topic}-done", self.pizzas[timed], self._done_values(timed), headers, us[timed])
        flags = {name: np.full(len(recovered), text, dtype=object) for name, text in
                 (("machine", topic), ("recovered", "true"))}  # fmt: skip
        bare = _records(self.pizzas[recovered], self._done_values(recovered), flags, us[recovered])
        return pa.concat_tables([sound, bare])

    def _done_values(self, rows: Ints) -> pa.Array[Any]:
        return _join('{"pizzaId":', self.pizzas[rows], ',"orderId":', self.order_ids[rows], ',"doneMsg":true}')


def _applied(recipe: Recipe, machine: int) -> str:
    """The rest of a pizza message on its way to ``machine``: what is on the pizza by then."""
    after = {topic: i for i, topic in enumerate(MACHINE_TOPICS)}
    fields = {
        "msgDesc": "on its way",
        "sauce": recipe.sauce if machine > after["sauce-machine"] else "",
        "baked": machine > after["oven-machine"],
        "cheese": recipe.cheese if machine > after["cheese-machine"] else (),
        "meat": recipe.meat if machine > after["meat-machine"] else (),
        "veggies": recipe.veggies if machine > after["vegetables-machine"] else (),
        "recipe": recipe.name,
    }
    return orjson.dumps(fields)[1:].decode()
