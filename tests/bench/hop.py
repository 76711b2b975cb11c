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


def measure_hops(bootstrap_servers: str, rounds: int) -> Hops:
    """Two hops per round, one in each direction; the first rounds are not counted."""
    there, back = (f"bench-{name}-{secrets.token_hex(4)}" for name in ("there", "back"))
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    for created in admin.create_topics([NewTopic(there, 1), NewTopic(back, 1)]).values():
        created.result()
    producer = Producer({**PRODUCER, "bootstrap.servers": bootstrap_servers})
    consumer = _consumer(bootstrap_servers, back)
    command = [sys.executable, "-m", "tests.bench.hop", bootstrap_servers, there, back]
    acks: list[int] = []
    hops: list[int] = []
    over = threading.Event()

    def deliver() -> None:
        while not over.is_set():
            producer.poll(0.2)

    delivery = threading.Thread(target=deliver)
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        delivery.start()
        try:
            for number in range(-WARM_UP, rounds):
                sent_us = _now_us()

                def acknowledged(_: object, __: Message, sent_us: int = sent_us, counted: bool = number >= 0) -> None:
                    if counted:
                        acks.append(_now_us() - sent_us)

                _send(producer, there, sent_us, acknowledged)
                answer = _next(consumer)
                arrived_us = _now_us()
                if number >= 0:
                    headers = dict(_headers(answer))
                    hops += [int(headers["hop-us"]), arrived_us - int(headers["at-us"])]
                time.sleep(PAUSE_S)
        finally:
            producer.produce(there, b"", b"stop", 0)
            producer.flush(10.0)
            over.set()
            delivery.join()
    consumer.close()
    return Hops(hops, acks)


def _answer(bootstrap_servers: str, there: str, back: str) -> None:
    """The other process: sends every record back as soon as it is read."""
    producer = Producer({**PRODUCER, "bootstrap.servers": bootstrap_servers})
    consumer = _consumer(bootstrap_servers, there)
    print("up", flush=True)
    while True:
        message = _next(consumer)
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


def _next(consumer: Consumer) -> Message:
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
