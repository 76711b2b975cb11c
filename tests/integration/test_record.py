"""Recording and draining on a real broker."""

from __future__ import annotations

import uuid
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from harness.errors import StackError
from harness.line import ALL_TOPICS
from harness.measure.drain import Drain, DrainProgress
from harness.measure.events import EVENTS_SCHEMA, EventsFile, EventsTable
from harness.measure.record import BATCH_RECORDS, read_topics
from harness.stacks.kafka_process import LocalKafka
from tests.simulated_line import Faults, SimulatedOrder, simulate


def create(broker: LocalKafka, topics: list[str]) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    for future in admin.create_topics([NewTopic(topic, 1, 1) for topic in topics]).values():
        future.result()


def produce(broker: LocalKafka, records: pa.Table) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "linger.ms": 20})
    for row in records.to_pylist():
        headers = [(header["key"], header["value"]) for header in row["headers"]]
        producer.produce(row["topic"], row["value"], row["key"], 0, headers=headers)
        producer.poll(0)
    assert producer.flush(30) == 0


@pytest.fixture
def topic(kafka: LocalKafka) -> str:
    name = f"record-{uuid.uuid4().hex[:8]}"
    create(kafka, [name])
    return name


def test_a_recording_holds_every_record_exactly_as_it_was_written(kafka: LocalKafka, topic: str) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    written: list[tuple[bytes | None, bytes | None, list[tuple[str, str | bytes | None]]]] = [
        (b"1", b'{"pizzaId": 1}', [("from", b"oven-machine"), ("at-us", b"17")]),
        (None, None, []),
        (b"", b"", [("twice", b"a"), ("twice", b"b"), ("null", None), ("empty", b"")]),
        (b"\xff\x00", b"\xfe not text", [("binary", b"\xff")]),
        (b"4", b"x" * 900_000, []),
    ]
    for key, value, headers in written:
        producer.produce(topic, value, key, 0, headers=headers)
    assert producer.flush(10) == 0

    table = pa.Table.from_batches(read_topics(kafka.bootstrap_servers, [topic]))

    assert table.schema == EVENTS_SCHEMA
    assert table["topic"].to_pylist() == [topic] * 5
    assert table["offset"].to_pylist() == [0, 1, 2, 3, 4]
    read = [
        (row["key"], row["value"], [(header["key"], header["value"]) for header in row["headers"]])
        for row in table.to_pylist()
    ]
    assert read == written


def test_records_written_after_the_call_are_not_read(kafka: LocalKafka, topic: str) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    producer.produce(topic, b"before", partition=0)
    assert producer.flush(10) == 0
    batches = read_topics(kafka.bootstrap_servers, [topic])
    producer.produce(topic, b"after", partition=0)
    assert producer.flush(10) == 0

    assert pa.Table.from_batches(batches)["value"].to_pylist() == [b"before"]


def test_many_records_come_in_several_batches_in_their_order(kafka: LocalKafka, topic: str) -> None:
    n = BATCH_RECORDS + 10_000
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "queue.buffering.max.messages": n + 1})
    for i in range(n):
        producer.produce(topic, b"%d" % i, partition=0)
    assert producer.flush(60) == 0

    batches = list(read_topics(kafka.bootstrap_servers, [topic]))

    assert len(batches) > 1
    assert pa.Table.from_batches(batches)["value"].to_pylist() == [b"%d" % i for i in range(n)]


def test_topics_that_do_not_exist_are_named(kafka: LocalKafka, topic: str) -> None:
    with pytest.raises(StackError, match=r"no such topics: nowhere, neverland$"):
        read_topics(kafka.bootstrap_servers, [topic, "nowhere", "neverland"])


def test_an_empty_topic_has_no_batches(kafka: LocalKafka, topic: str) -> None:
    assert list(read_topics(kafka.bootstrap_servers, [topic])) == []


def test_a_broker_that_dies_while_it_is_read_is_an_error_and_not_a_short_recording(fresh_kafka: LocalKafka) -> None:
    n = 3 * BATCH_RECORDS
    create(fresh_kafka, ["long"])
    settings = {"bootstrap.servers": fresh_kafka.bootstrap_servers, "queue.buffering.max.messages": n + 1}
    producer = Producer(settings | {"linger.ms": 50})
    for _ in range(n):
        producer.produce("long", b"x" * 1000, partition=0)
    assert producer.flush(60) == 0
    batches = read_topics(fresh_kafka.bootstrap_servers, ["long"], stall_timeout_s=2.0)
    next(batches)

    fresh_kafka.kill()

    with pytest.raises(StackError, match=r"stopped answering: long was read to offset \d+ of 150000"):
        list(batches)


ORDERS = [SimulatedOrder(2), SimulatedOrder(3), SimulatedOrder(1), SimulatedOrder(1)]


@pytest.fixture
def line(fresh_kafka: LocalKafka) -> LocalKafka:
    create(fresh_kafka, list(ALL_TOPICS))
    return fresh_kafka


def test_a_whole_line_goes_through_a_file_unchanged_and_drains(line: LocalKafka, tmp_path: Path) -> None:
    faults = Faults(dead_lettered={4: "oven-machine"}, broken_orders=[2])
    simulated = simulate(ORDERS, faults=faults)
    produce(line, simulated.events)

    with pq.ParquetWriter(tmp_path / "events.parquet", EVENTS_SCHEMA) as writer:
        for batch in read_topics(line.bootstrap_servers):
            writer.write_batch(batch)
    recorded = EventsFile(tmp_path / "events.parquet")
    columns = ["partition", "offset", "key", "value", "headers"]
    for name in ALL_TOPICS:
        expected = EventsTable(simulated.events).topic(name, columns)
        assert recorded.topic(name, columns).to_pylist() == expected.to_pylist()

    seen: list[DrainProgress] = []
    with Drain(line.bootstrap_servers) as drain:
        result = drain.wait(20, seen.append, expected_orders=[1, 4])

    assert result.complete
    assert result.failed_orders == (2, 3)
    assert result.progress == seen[-1] == DrainProgress(3, 2, 2, 0, 6, 5)


def test_a_drain_that_runs_out_of_time_names_open_and_unseen_orders(line: LocalKafka) -> None:
    produce(line, simulate(ORDERS, faults=Faults(lost={3: "meat-machine"})).events)

    with Drain(line.bootstrap_servers) as drain:
        result = drain.wait(1.5, expected_orders=[1, 99])
        assert not result.complete
        assert (result.open_orders, result.unseen_orders) == ((2,), (99,))

        # It goes on where it stopped: the order's end arrives later.
        done = Producer({"bootstrap.servers": line.bootstrap_servers})
        done.produce("order-done", orjson.dumps({"orderId": 2, "endTimestamp": 1}), b"2", 0)
        assert done.flush(10) == 0
        assert drain.wait(20, expected_orders=[1]).complete


def test_a_check_that_raises_ends_the_waiting(line: LocalKafka) -> None:
    produce(line, simulate(ORDERS, faults=Faults(lost={3: "meat-machine"})).events)

    def dead() -> None:
        raise StackError("the oven is down for good")

    with Drain(line.bootstrap_servers) as drain, pytest.raises(StackError, match="down for good"):
        drain.wait(20, check=dead)


def test_a_drain_needs_its_topics(kafka: LocalKafka) -> None:
    with pytest.raises(StackError, match="no such topics: order-stack"):
        Drain(kafka.bootstrap_servers)
