import os
import signal
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from harness.errors import StackError
from harness.stacks.kafka_process import LocalKafka
from harness.stacks.ports import HOST
from harness.stacks.supervisor import Supervisor
from harness.waiting import wait_until
from tests.unit.stacks.fakes import alive


def create_topic(bootstrap_servers: str, name: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    admin.create_topics([NewTopic(name, 1, 1)])[name].result(20)


def produce(bootstrap_servers: str, topic: str, values: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap_servers, "acks": "all", "linger.ms": 0})
    for value in values:
        producer.produce(topic, value=value, partition=0)
    assert producer.flush(20) == 0


def read_all(bootstrap_servers: str, topic: str, count: int) -> list[bytes | str | None]:
    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "reader", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, 0, 0)])
    values: list[bytes | str | None] = []

    def enough() -> bool:
        message = consumer.poll(0.1)
        if message is not None and message.error() is None:
            values.append(message.value())
        return len(values) >= count

    wait_until(enough, 20, f"{count} records", interval_s=0)
    consumer.close()
    return values


def test_records_survive_a_kill_and_a_start_on_the_same_data_and_port(fresh_kafka: LocalKafka) -> None:
    servers, first_pid = fresh_kafka.bootstrap_servers, fresh_kafka.pid
    create_topic(servers, "pizzas")
    produce(servers, "pizzas", [b"one", b"two"])
    fresh_kafka.kill()
    assert not alive(first_pid)
    fresh_kafka.start()
    assert fresh_kafka.bootstrap_servers == servers
    produce(servers, "pizzas", [b"three"])
    assert read_all(servers, "pizzas", 3) == [b"one", b"two", b"three"]


def test_a_stopped_broker_leaves_no_process_and_starts_again(fresh_kafka: LocalKafka) -> None:
    pid = fresh_kafka.pid
    fresh_kafka.stop()
    assert not alive(pid)
    with pytest.raises(StackError, match="kafka is not running"):
        _ = fresh_kafka.pid
    fresh_kafka.start()
    assert alive(fresh_kafka.pid)


def test_a_broker_under_a_supervisor_comes_back_by_itself_when_it_dies(tmp_path: Path) -> None:
    with (
        Supervisor() as supervisor,
        LocalKafka(tmp_path / "data", log_file=tmp_path / "kafka.log", supervisor=supervisor) as broker,
    ):
        create_topic(broker.bootstrap_servers, "pizzas")
        produce(broker.bootstrap_servers, "pizzas", [b"one"])
        os.kill(broker.pid, signal.SIGKILL)
        wait_until(lambda: supervisor.restarts["kafka"] == 1, 20, "the restart")
        broker.wait_started()
        assert read_all(broker.bootstrap_servers, "pizzas", 1) == [b"one"]


def test_a_broker_that_cannot_start_shows_its_last_lines_and_is_gone(tmp_path: Path) -> None:
    broker = LocalKafka(
        tmp_path / "data", log_file=tmp_path / "kafka.log", settings={"log.cleaner.dedupe.buffer.size": "many"}
    )
    with pytest.raises(StackError, match=r"(?s)kafka ended with exit code 1 before it was ready.*dedupe"), broker:
        pytest.fail("it started")


def test_each_cluster_has_an_id_of_its_own(kafka: LocalKafka, fresh_kafka: LocalKafka) -> None:
    ids = {
        AdminClient({"bootstrap.servers": broker.bootstrap_servers}).list_topics(timeout=10).cluster_id
        for broker in (kafka, fresh_kafka)
    }
    assert len(ids) == 2


def test_topics_are_not_made_by_asking_for_them(kafka: LocalKafka) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    admin.list_topics("never-created", timeout=10)
    assert "never-created" not in admin.list_topics(timeout=10).topics


def test_the_broker_listens_on_loopback_only(kafka: LocalKafka) -> None:
    listening = []
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for row in table.read_text().splitlines()[1:]:
            local, state = row.split()[1], row.split()[3]
            if state == "0A" and int(local.rpartition(":")[2], 16) == kafka.port:
                listening.append(local)
    assert len(listening) == 1
    # 127.0.0.1 as the kernel prints it, plain or as an IPv6 address
    assert listening[0].startswith(("0100007F:", "0000000000000000FFFF00000100007F:"))
    assert kafka.bootstrap_servers.startswith(f"{HOST}:")
