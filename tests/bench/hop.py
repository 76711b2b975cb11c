"""One produce-to-consume hop through a broker, with the very client settings of the line's services.

Two processes play ping-pong through two topics; each answers from the thread that reads, so a hop has the least that
any service could add. Records are of a pizza's size and carry the line's headers.
"""

from __future__ import annotations

import secrets
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from harness.line import ROOT
from machines.runtime.kafka import CONSUMER, PRODUCER

VALUE = b"x" * 280
PAUSE_S = 0.005
WARM_UP = 50


@dataclass(frozen=True)
class Hops:
    """Microseconds: from before produce to after poll in the other process, and from before produce to the ack."""

    hop_us: list[int]
    ack_us: list[int]


class HopProbe:
    """The other process and the two topics: a context manager. Each ``round`` is one hop there and one back."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._there, self._back = (f"bench-{name}-{secrets.token_hex(4)}" for name in ("there", "back"))
        admin = AdminClient({"bootstrap.servers": bootstrap_servers})
        for created in admin.create_topics([NewTopic(self._there, 1), NewTopic(self._back, 1)]).values():
            created.result()
        self._producer = Producer({**PRODUCER, "bootstrap.servers": bootstrap_servers})
        self._consumer = _consumer(bootstrap_servers, self._back)
        command = [sys.executable, "-m", "tests.bench.hop", bootstrap_servers, self._there, self._back]
        self._other = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        self._over = threading.Event()
        self._delivery = threading.Thread(target=self._deliver)
        self._hops: list[int] = []
        self._acks: list[int] = []

    def __enter__(self) -> HopProbe:
        assert self._other.stdout is not None
        self._other.stdout.readline()
        self._delivery.start()
        for _ in range(WARM_UP):
            self.round()
        self.take()
        return self

    def __exit__(self, *_: object) -> None:
        self._producer.produce(self._there, b"", b"stop", 0)
        self._producer.flush(10.0)
        self._over.set()
        self._delivery.join()
        self._consumer.close()
        self._other.wait(10.0)

    def round(self) -> None:
        """Once there and back, then a pause."""
        sent_us = _now_us()
        _send(self._producer, self._there, sent_us, lambda *_: self._acks.append(_now_us() - sent_us))
        answer = next_record(self._consumer)
        arrived_us = _now_us()
        headers = dict(_headers(answer))
        self._hops += [int(headers["hop-us"]), arrived_us - int(headers["at-us"])]
        time.sleep(PAUSE_S)

    def take(self) -> Hops:
        """What was measured since the last call."""
        hops, self._hops, self._acks = Hops(self._hops, self._acks), [], []
        return hops

    def _deliver(self) -> None:
        while not self._over.is_set():
            self._producer.poll(0.2)


def _answer(bootstrap_servers: str, there: str, back: str) -> None:
    """The other process: sends every record back as soon as it is read."""
    producer = Producer({**PRODUCER, "bootstrap.servers": bootstrap_servers})
    consumer = _consumer(bootstrap_servers, there)
    print("up", flush=True)
    while True:
        message = next_record(consumer)
        arrived_us = _now_us()
        if message.key() == b"stop":
            break
        hop_us = arrived_us - int(dict(_headers(message))["at-us"])
        _send(producer, back, _now_us(), None, ("hop-us", b"%d" % hop_us))
        producer.poll(0)
    producer.flush(10.0)
    consumer.close()


def _consumer(bootstrap_servers: str, topic: str) -> Consumer:
    consumer = Consumer({**CONSUMER, "bootstrap.servers": bootstrap_servers, "group.id": "bench"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    return consumer


def _send(producer: Producer, topic: str, sent_us: int, on_delivery: object, *more: tuple[str, bytes]) -> None:
    headers: list[tuple[str, str | bytes | None]] = [("from", b"bench-machine"), ("at-us", b"%d" % sent_us), *more]
    producer.produce(topic, VALUE, b"1", 0, on_delivery=on_delivery, headers=headers)  # type: ignore[arg-type]


def next_record(consumer: Consumer) -> Message:
    """Wait for a record, however long it takes."""
    while True:
        message = consumer.poll(0.5)
        if message is not None and message.error() is None:
            return message


def _headers(message: Message) -> list[tuple[str, bytes]]:
    headers = message.headers() or []
    pairs = list(headers.items()) if isinstance(headers, dict) else headers
    return [(name, value) for name, value in pairs if isinstance(value, bytes)]


def _now_us() -> int:
    return time.time_ns() // 1000


if __name__ == "__main__":
    _answer(*sys.argv[1:])
