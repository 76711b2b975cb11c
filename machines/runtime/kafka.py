"""Kafka, as every service of the line uses it: one consumer, one producer, one lock (PROTOCOL.md, rules 6 and 7).

A Link runs two threads. The reader hands on each record as it arrives; the delivery thread hands on each
acknowledgement. Both call back under the link's lock, so a service's state needs no other care, and nothing
waits for a hand-over between threads: what a record causes is written by the thread that read it.
"""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from machines.runtime.logs import Log
from machines.runtime.messages import Headers

PARTITION = 0
"""Every line topic is used through its partition 0."""

_CLIENT = {
    "socket.nagle.disable": True,
    "reconnect.backoff.ms": 20,
    "reconnect.backoff.max.ms": 500,
    "retry.backoff.ms": 50,
    "retry.backoff.max.ms": 500,
    "topic.metadata.refresh.fast.interval.ms": 50,
    "allow.auto.create.topics": False,
    "log_level": 0,  # librdkafka's own lines are not JSON; its errors come through the error callback
}

CONSUMER = {
    **_CLIENT,
    "enable.auto.commit": False,
    "auto.offset.reset": "error",
    "check.crcs": False,
    "fetch.error.backoff.ms": 50,
    "fetch.message.max.bytes": 4_194_304,
}

PRODUCER = {
    **_CLIENT,
    "acks": "all",
    "enable.idempotence": True,
    "linger.ms": 0,
    "delivery.timeout.ms": 120_000,
}

COMMIT_INTERVAL_S = 1.0
"""Committed offsets only tell observers how far a machine is: recovery never relies on them."""

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""Blocked in every thread of a service, so that they stay pending until it looks for them."""

POLL_S = 0.2
"""The longest that a thread waits for Kafka before it looks whether the service is to stop."""

ERROR_LOG_INTERVAL_S = 1.0
"""While the broker is away, every attempt to connect fails: one line a second says it as well."""

FLUSH_S = 2.0
"""How long a stop waits for acknowledgements. With a broker that is silent the whole of it stays below 4 s."""

CLOSE_S = 0.5
"""How long a stop waits for the last commit, which nothing depends on."""

OnAck = Callable[[int, int], None]
"""Called with (offset, epoch microseconds) when the broker has acknowledged a record."""


class LinkFailed(RuntimeError):
    """The service cannot go on: its supervisor starts it again, and it reads back what it had done."""


class Stopped(Exception):
    """A stop signal came before the service was ready."""


def now_us() -> int:
    """Epoch microseconds."""
    return time.time_ns() // 1000


@dataclass(slots=True)
class Read:
    """One record as read. ``value`` and ``key`` are bytes or None."""

    topic: str
    offset: int
    key: bytes | None
    value: bytes | None
    message: Message

    @property
    def headers(self) -> dict[str, bytes]:
        """Header values by name; where a name repeats, the last one counts."""
        return {name: value for name, value in _pairs(self.message) if isinstance(value, bytes)}


def _pairs(message: Message) -> list[tuple[str, str | bytes | None]]:
    headers = message.headers() or []
    return list(headers.items()) if isinstance(headers, dict) else headers


def _read(message: Message) -> Read:
    # Only errors have neither topic nor offset.
    return Read(
        cast(str, message.topic()),
        cast(int, message.offset()),
        message.key(),
        message.value(),
        message,
    )


class Link:
    """A service's connection to the line.

    The first failure of any kind, in any thread, is kept in ``failure`` and sends the process a SIGTERM, so that
    there is one way out of it: see ``service.serve``. What the start waits for ends with Stopped or LinkFailed then.
    """

    def __init__(self, bootstrap_servers: str, group: str, log: Log) -> None:
        self.lock = threading.RLock()
        self.failure: str | None = None
        self._closing = False
        self._error_logged_at = 0.0
        self._settled: dict[str, int] = {}
        self._log = log
        common = {"bootstrap.servers": bootstrap_servers, "error_cb": self._on_client_error}
        self._consumer_config = {**CONSUMER, **common, "group.id": group}
        self._consumer: Consumer | None = None
        self._producer = Producer({**PRODUCER, **common})
        self._threads: list[threading.Thread] = []

    def check_stop(self) -> None:
        """Raises LinkFailed if the service has failed, Stopped if a stop signal is pending."""
        if self.failure is not None:
            raise LinkFailed(self.failure)
        if not signal.sigpending().isdisjoint(STOP_SIGNALS):
            raise Stopped

    def wait_for_topics(self, topics: Iterable[str], timeout_s: float) -> None:
        """Return once every topic exists. Raises LinkFailed, naming what is missing, after ``timeout_s`` seconds."""
        deadline = time.monotonic() + timeout_s
        wanted = set(topics)
        missing = wanted
        reason = ""
        while True:
            self.check_stop()
            try:
                found = self._producer.list_topics(timeout=max(0.1, min(0.5, deadline - time.monotonic()))).topics
                missing = wanted - {name for name, topic in found.items() if topic.error is None}
                reason = f"topics missing: {', '.join(sorted(missing))}"
            except KafkaException as error:
                reason = reason or f"no broker answered: {error.args[0].str()}"  # what was missing says more
                missing = wanted
            if not missing:
                return
            if time.monotonic() >= deadline:
                raise LinkFailed(f"not connected within {timeout_s:g} s: {reason}")
            time.sleep(0.05)

    def read_back(self, topics: Iterable[str]) -> Iterator[Read]:
        """Every record of ``topics`` from the first to the current end. Records of one topic come in order."""
        config = {**self._consumer_config, "enable.partition.eof": True, "fetch.wait.max.ms": 10}
        open_topics = set(topics)
        consumer = Consumer(config)
        try:
            consumer.assign([TopicPartition(topic, PARTITION, 0) for topic in open_topics])
            while open_topics:
                self.check_stop()
                for message in consumer.consume(1000, timeout=0.02):
                    error = message.error()
                    if error is None:
                        yield _read(message)
                    elif error.code() == KafkaError._PARTITION_EOF:
                        open_topics.discard(str(message.topic()))
                    else:
                        self._check(error)
        finally:
            consumer.close()

    def follow(self, positions: dict[str, int], on_record: Callable[[Read, int], None]) -> None:
        """Start the threads: read every topic of ``positions`` from its offset on.

        ``on_record`` gets the record and the epoch microseconds of its arrival.
        """
        gc.freeze()  # what the start has made stays; a collector that went through it would hold up pizzas
        self._consumer = Consumer(self._consumer_config)
        self._consumer.assign([TopicPartition(topic, PARTITION, at) for topic, at in positions.items()])
        for name, target in (("reader", lambda: self._read_on(on_record)), ("delivery", self._deliver)):
            thread = threading.Thread(target=self.guarded(target), name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def send(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers, on_ack: OnAck) -> None:
        """Write one record; ``on_ack`` is called under the lock. A failed delivery ends the service."""

        def delivered(error: KafkaError | None, message: Message) -> None:
            at = now_us()
            if error is not None:
                self.fail(f"delivery to {topic} failed: {error.str()}")
                return
            with self.lock:
                on_ack(message.offset() or 0, at)

        self._producer.produce(topic, value, key, PARTITION, on_delivery=delivered, headers=headers)

    def settled(self, topic: str, offset: int) -> None:
        """Every record of ``topic`` below ``offset`` is settled; the reader commits it. Under the lock."""
        self._settled[topic] = offset

    def fail(self, reason: str) -> None:
        """End the service with ``reason``; the first reason stays."""
        if self.failure is None and not self._closing:
            self.failure = reason
            os.kill(os.getpid(), signal.SIGTERM)

    def close(self) -> None:
        """Stop reading, let writes be acknowledged, commit, disconnect: 3 s at most, even with a silent broker."""
        self._closing = True
        flush_until = time.monotonic() + FLUSH_S
        for thread in self._threads:
            thread.join(2 * POLL_S)
        self._producer.flush(max(0.0, flush_until - time.monotonic()))
        if self._consumer is not None:
            if self._settled:
                self._commit(self._consumer)
            closing = threading.Thread(target=self._consumer.close, name="close", daemon=True)
            closing.start()  # it waits for the commit's answer, which a silent broker does not give
            closing.join(CLOSE_S)

    def _read_on(self, on_record: Callable[[Read, int], None]) -> None:
        """The reader thread. It alone touches the consumer: calls from another thread can starve behind ``poll``."""
        consumer = self._consumer
        assert consumer is not None
        committed_at = time.monotonic()
        while not self._closing:
            message = consumer.poll(POLL_S)
            at = now_us()
            if message is not None:
                error = message.error()
                if error is None:
                    with self.lock:
                        on_record(_read(message), at)
                else:
                    self._check(error)
            if self._settled and time.monotonic() - committed_at >= COMMIT_INTERVAL_S:
                self._commit(consumer)
                committed_at = time.monotonic()

    def _commit(self, consumer: Consumer) -> None:
        with self.lock:
            settled, self._settled = self._settled, {}
        offsets = [TopicPartition(topic, PARTITION, offset) for topic, offset in settled.items()]
        consumer.commit(offsets=offsets, asynchronous=True)

    def _deliver(self) -> None:
        while not self._closing:
            self._producer.poll(POLL_S)

    def guarded(self, target: Callable[[], None]) -> Callable[[], None]:
        """``target`` as a thread's body whose every exception ends the service."""

        def body() -> None:
            try:
                target()
            except Exception as error:  # noqa: BLE001 - whatever it is, the service must end and say it
                self.fail(f"{type(error).__name__}: {error}")

        return body

    def _check(self, error: KafkaError) -> None:
        if error.fatal() or error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise LinkFailed(error.str())
        self._log.warning("read error", reason=error.str())

    def _on_client_error(self, error: KafkaError) -> None:
        if error.fatal():
            self.fail(f"fatal client error: {error.str()}")
            return
        now = time.monotonic()
        if now - self._error_logged_at >= ERROR_LOG_INTERVAL_S:
            self._error_logged_at = now
            self._log.warning("client error", reason=error.str())
