"""The embedded engine as a process of its own, on a real Kafka."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from harness.errors import KsqlError
from harness.ksqldb import KsqlClient
from harness.line import ALL_TOPICS, ROOT
from harness.stacks.kafka_process import LocalKafka
from harness.waiting import wait_until


@dataclass
class Running:
    """An engine's process, a client for it, and the lines that it logs."""

    process: subprocess.Popen[str]
    client: KsqlClient
    lines: list[dict[str, Any]] = field(default_factory=list)

    def logged(self, event: str) -> list[dict[str, Any]]:
        return [line for line in list(self.lines) if line["event"] == event]


@contextmanager
def engine(kafka: LocalKafka) -> Iterator[Running]:
    command = [sys.executable, "-m", "harness.ksqldb.embedded", "--bootstrap-servers", kafka.bootstrap_servers]
    process = subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    lines: list[dict[str, Any]] = []
    reader = threading.Thread(target=lambda: lines.extend(map(json.loads, process.stdout or ())), daemon=True)
    reader.start()
    client: KsqlClient | None = None
    try:
        port = wait_until(lambda: next((x["port"] for x in lines if x["event"] == "ready"), None), 30.0, "the engine")
        client = KsqlClient(f"http://127.0.0.1:{port}")
        yield Running(process, client, lines)
    finally:
        if client is not None:
            client.close()
        process.kill()
        process.wait()
        reader.join()
        process.stdout.close()


Send = Callable[..., None]


@contextmanager
def sender(kafka: LocalKafka) -> Iterator[Send]:
    """Sends records to a topic's partition 0 and returns when the broker acknowledged them all."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "linger.ms": 0, "log_level": 0})

    def send(topic: str, *records: Any) -> None:
        failures: list[Any] = []
        for record in records:
            value = record if isinstance(record, bytes) or record is None else json.dumps(record)
            producer.produce(topic, value, partition=0, on_delivery=lambda error, _: failures.append(error))
            producer.poll(0)
        assert producer.flush(30) == 0
        assert failures == [None] * len(records)

    yield send


def create_topics(kafka: LocalKafka, *names: str) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers, "log_level": 0})
    for created in admin.create_topics([NewTopic(name, 1, 1) for name in names]).values():
        created.result()


@pytest.fixture
def line_topics(fresh_kafka: LocalKafka) -> LocalKafka:
    create_topics(fresh_kafka, *ALL_TOPICS)
    return fresh_kafka


def test_both_latency_tables_are_served_from_kafka_with_records_from_before_and_after(line_topics: LocalKafka) -> None:
    with engine(line_topics) as running, sender(line_topics) as send:
        send("order-processing", {"orderId": 349, "orderSize": 2, "startTimestamp": 1763312501613})
        send("dough-machine", *({"pizzaId": n, "orderId": 349, "startTimestamp": 1000 + n} for n in (1, 2)))
        assert running.client.healthy()
        assert running.client.info()["kafkaClusterId"]
        applied = running.client.apply_directory(ROOT / "ksql")
        assert [entity["@type"] for entity in applied] == ["currentStatus"] * 11
        again = running.client.apply_directory(ROOT / "ksql")
        assert [entity["@type"] for entity in again] == ["warning_entity"] * 11

        assert running.client.pull("order_latency").rows == [[349, 2, 1763312501613, None, None]]
        send("pizza-done", b"broken", {"pizzaId": 2, "orderId": 349, "endTimestamp": 1500}, None)
        send("order-done", {"orderId": 349, "endTimestamp": 1763312520802})
        orders = running.client.pull("order_latency")
        assert orders.columns == ["ORDERID", "ORDERSIZE", "STARTTIMESTAMP", "ENDTIMESTAMP", "LATENCYMS"]
        assert orders.rows == [[349, 2, 1763312501613, 1763312520802, 19189]]
        pizzas = running.client.pull("pizza_latency")
        assert pizzas.columns == ["PIZZAID", "ORDERID", "STARTTIMESTAMP", "ENDTIMESTAMP", "LATENCYMS"]
        assert sorted(pizzas.rows) == [[1, 349, 1001, None, None], [2, 349, 1002, 1500, 498]]
        dropped = wait_until(lambda: running.logged("record-dropped"), 5.0, "the dropped record in the log")
        assert [(line["topic"], line["offset"]) for line in dropped] == [("pizza-done", 0)]

        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(10) == 0


def test_a_record_that_was_acknowledged_before_a_pull_is_in_its_answer(kafka: LocalKafka) -> None:
    create_topics(kafka, "ksql-fresh")
    with engine(kafka) as running, sender(kafka) as send:
        running.client.execute(
            "CREATE STREAM s (id INT, n INT) WITH (KAFKA_TOPIC='ksql-fresh', VALUE_FORMAT='JSON');"
            "CREATE TABLE t AS SELECT id, LATEST_BY_OFFSET(n) AS n FROM s GROUP BY id;"
        )
        for number in range(30):
            send("ksql-fresh", {"id": 7, "n": number})
            assert running.client.pull("t").rows == [[7, number]]


def test_only_committed_transactions_are_read_and_their_markers_hold_nothing_up(kafka: LocalKafka) -> None:
    create_topics(kafka, "ksql-transactions")
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": "ksql-test", "log_level": 0})
    producer.init_transactions(30)
    with engine(kafka) as running, sender(kafka) as send:
        running.client.execute(
            "CREATE STREAM s (id INT) WITH (KAFKA_TOPIC='ksql-transactions', VALUE_FORMAT='JSON');"
            "CREATE TABLE t AS SELECT id, MAX(id) AS n FROM s GROUP BY id;"
        )

        def holds(*ids: int) -> bool:
            return sorted(running.client.pull("t").rows) == [[number, number] for number in ids]

        # The broker writes a transaction's end a little after it confirmed it: hence the waiting.
        for number, end in enumerate([producer.commit_transaction, producer.abort_transaction]):
            producer.begin_transaction()
            producer.produce("ksql-transactions", json.dumps({"id": number}), partition=0)
            producer.flush(30)
            end(30)
            wait_until(lambda: holds(0), 10.0, "the committed record")
        send("ksql-transactions", {"id": 2})
        wait_until(lambda: holds(0, 2), 10.0, "the record behind the transactions")


def test_a_broker_that_comes_back_on_its_data_is_read_on(line_topics: LocalKafka) -> None:
    with engine(line_topics) as running, sender(line_topics) as send:
        running.client.apply_directory(ROOT / "ksql")
        send("order-processing", {"orderId": 1, "orderSize": 1, "startTimestamp": 10})
        assert running.client.pull("order_latency").rows == [[1, 1, 10, None, None]]
        line_topics.stop()
        wait_until(lambda: not running.client.healthy(), 10.0, "the engine to notice that Kafka is away")
        with pytest.raises(KsqlError, match="Kafka"):
            running.client.pull("order_latency")
        line_topics.start()
        wait_until(running.client.healthy, 10.0, "the engine to find Kafka again")
        send("order-done", {"orderId": 1, "endTimestamp": 30})
        assert running.client.pull("order_latency").rows == [[1, 1, 10, 30, 20]]


def test_a_topic_that_vanishes_ends_the_engines_health(kafka: LocalKafka) -> None:
    create_topics(kafka, "ksql-doomed")
    with engine(kafka) as running, sender(kafka) as send:
        running.client.execute(
            "CREATE STREAM s (id INT) WITH (KAFKA_TOPIC='ksql-doomed', VALUE_FORMAT='JSON');"
            "CREATE TABLE t AS SELECT id, MAX(id) AS n FROM s GROUP BY id;"
        )
        send("ksql-doomed", {"id": 1})
        assert running.client.pull("t").rows == [[1, 1]]
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers, "log_level": 0})
        admin.delete_topics(["ksql-doomed"])["ksql-doomed"].result()
        with pytest.raises(KsqlError):
            wait_until(lambda: running.client.pull("t").rows != [[1, 1]], 10.0, "the pull to be refused")


def test_an_engine_whose_port_is_taken_exits_with_the_reason(kafka: LocalKafka) -> None:
    with engine(kafka) as running:
        port = running.client.url.rsplit(":", 1)[1]
        command = [sys.executable, "-m", "harness.ksqldb.embedded", "--bootstrap-servers", kafka.bootstrap_servers]
        second = subprocess.run(
            [*command, "--port", port], capture_output=True, text=True, timeout=30, cwd=ROOT, check=False
        )
        assert second.returncode == 1
        assert port in second.stdout.splitlines()[-1]


def test_many_records_are_read_and_pulled_whole(kafka: LocalKafka) -> None:
    create_topics(kafka, "ksql-many")
    with engine(kafka) as running, sender(kafka) as send:
        send("ksql-many", *({"id": n, "n": n * 2} if n % 10 else b"broken" for n in range(100_000)))
        running.client.execute(
            "CREATE STREAM s (id INT, n INT) WITH (KAFKA_TOPIC='ksql-many', VALUE_FORMAT='JSON');"
            "CREATE TABLE t AS SELECT id, MAX(n) AS n FROM s GROUP BY id;"
        )
        rows = running.client.pull("t").rows
        assert sorted(rows) == [[n, n * 2] for n in range(100_000) if n % 10]
