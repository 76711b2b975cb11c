"""Records from Kafka, read by one consumer without a group in one thread.

The engine shares its processor cores with the system that is measured, so reading is made cheap: the broker answers a
fetch when a good deal has gathered or ``FETCH_WAIT_MS`` has passed, which bounds the fetches per second
whatever the load, and is the longest that a pull query waits for records to come in.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from harness.ksqldb.embedded.records import Chunk, Sink, SourceFailure, UnknownTopic

FETCH_WAIT_MS = 50
BATCH_RECORDS = 10_000
ANSWER_TIMEOUT_S = 5.0
SETTLE_AFTER_S = 1.0
POLL_S = 0.1

_log = logging.getLogger(__name__)


class KafkaSource:
    """A RecordSource over a Kafka cluster. Any error of the reading thread ends it and shows in ``problem``."""

    def __init__(self, bootstrap_servers: str) -> None:
        common: dict[str, Any] = {
            "bootstrap.servers": bootstrap_servers,
            "client.id": "ksqldb-embedded",
            "reconnect.backoff.max.ms": 250,
            "error_cb": self._on_client_error,
            "logger": _log,
        }
        self._admin = AdminClient(common)
        self._consumer = Consumer(
            {
                **common,
                "group.id": "ksqldb-embedded",  # asked for by the client library; offsets are neither read nor kept
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "error",
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": FETCH_WAIT_MS,
                "fetch.min.bytes": 262_144,
                "fetch.queue.backoff.ms": 5,
            }
        )
        self._changed = threading.Condition()
        self._sinks: dict[str, list[Sink]] = {}
        self._next: dict[tuple[str, int], int] = {}
        self._assign = False
        self._closing = False
        self._failure: str | None = None
        self._thread = threading.Thread(target=self._guarded, name="kafka-reader", daemon=True)
        self._thread.start()

    def cluster_id(self) -> str:
        try:
            found = self._admin.list_topics(timeout=ANSWER_TIMEOUT_S).cluster_id
        except KafkaException as error:
            raise SourceFailure(f"Kafka does not answer: {error}") from error
        return found or ""

    def partition_count(self, topic: str) -> int:
        try:
            found = self._admin.list_topics(topic, timeout=ANSWER_TIMEOUT_S).topics[topic]
        except KafkaException as error:
            raise SourceFailure(f"Kafka does not answer: {error}") from error
        if found.error is not None:
            if found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise UnknownTopic(topic)
            raise SourceFailure(f"Kafka's topic {topic}: {found.error}")
        return len(found.partitions)

    def follow(self, topic: str, sink: Sink) -> None:
        parts = [TopicPartition(topic, partition) for partition in range(self.partition_count(topic))]
        first = self._offsets(parts, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
        with self._changed:
            self._sinks.setdefault(topic, []).append(sink)
            self._next.update(first)
            self._assign = True

    def catch_up(self, topics: frozenset[str]) -> None:
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        with self._changed:
            parts = [TopicPartition(*part) for part in self._next if part[0] in topics]
        ends = self._offsets(parts, OffsetSpec.latest())  # type: ignore[no-untyped-call]

        def arrived() -> bool:
            return self._failure is not None or all(self._next[part] >= end for part, end in ends.items())

        with self._changed:
            # Bounded by progress, not by the amount: a long topic may take long to read.
            while not arrived():
                before = dict(self._next)
                self._changed.wait(timeout=max(0.0, deadline - time.monotonic()))
                if self._next != before:
                    deadline = time.monotonic() + ANSWER_TIMEOUT_S
                elif time.monotonic() >= deadline:
                    raise SourceFailure(f"No records came from Kafka for {ANSWER_TIMEOUT_S:g} s.")
            if self._failure is not None:
                raise SourceFailure(self._failure)

    def problem(self) -> str | None:
        if self._failure is not None:
            return self._failure
        try:
            self._admin.list_topics(timeout=2.0)
        except KafkaException as error:
            return f"Kafka does not answer: {error}"
        return None

    def close(self) -> None:
        with self._changed:
            self._closing = True
        self._thread.join()
        self._consumer.close()

    def _offsets(self, parts: list[TopicPartition], which: OffsetSpec) -> dict[tuple[str, int], int]:
        """The first offset of each partition, or the one after its last readable record, asked of the broker now."""
        if not parts:
            return {}
        try:
            answers = self._admin.list_offsets(
                dict.fromkeys(parts, which),
                isolation_level=IsolationLevel.READ_COMMITTED,
                request_timeout=ANSWER_TIMEOUT_S,
            )
            return {(part.topic, part.partition): answer.result().offset for part, answer in answers.items()}
        except KafkaException as error:
            raise SourceFailure(f"Kafka did not say how far its topics go: {error}") from error

    def _guarded(self) -> None:
        try:
            self._read()
        except Exception as error:  # noqa: BLE001 - whatever it is, it must show in the engine's health
            _log.exception("reading from Kafka ended")
            with self._changed:
                self._failure = f"Reading from Kafka ended: {type(error).__name__}: {error}"
                self._changed.notify_all()

    def _read(self) -> None:
        unsettled: set[str] = set()
        settle_at = 0.0
        while not self._closing:
            with self._changed:
                if self._assign:
                    self._consumer.assign([TopicPartition(*part, offset) for part, offset in self._next.items()])
                    self._assign = False
            first = self._consumer.poll(POLL_S)
            if first is not None:
                messages = [first, *self._consumer.consume(BATCH_RECORDS, timeout=0)]
                if not unsettled:
                    settle_at = time.monotonic() + SETTLE_AFTER_S
                unsettled |= self._hand_out(messages)
            if unsettled and (time.monotonic() >= settle_at):
                for topic in unsettled:
                    for sink in self._sinks[topic]:
                        sink.settle()
                unsettled = set()

    def _hand_out(self, messages: list[Message]) -> set[str]:
        """Give the messages of one batch to the sinks; the topics that had any."""
        batches: dict[tuple[str, int], tuple[list[int], list[bytes | None]]] = {}
        reached: dict[tuple[str, int], int] = {}
        last: tuple[str, int] | None = None
        for message in messages:  # runs for every record of the line: cheap things only
            error = message.error()
            # A message that was delivered, and an end of a partition, have all three.
            part: tuple[str, int] = (message.topic(), message.partition())  # type: ignore[assignment]
            offset: int = message.offset()  # type: ignore[assignment]
            if error is None:
                if part != last:
                    offsets, values = batches.setdefault(part, ([], []))
                    last = part
                offsets.append(offset)
                values.append(message.value())
            elif error.code() == KafkaError._PARTITION_EOF:
                reached[part] = offset
            elif error.retriable():
                _log.warning("Kafka: %s", error)
            else:
                raise KafkaException(error)
        for part, (offsets, _) in batches.items():
            reached[part] = max(offsets[-1] + 1, reached.get(part, 0))
        with self._changed:
            if self._assign:
                return set()  # these were read for the old positions; the new ones come first
            for part, (offsets, values) in batches.items():
                for sink in self._sinks[part[0]]:
                    sink.accept(Chunk(part[1], offsets, values))
            self._next.update(reached)
            self._changed.notify_all()
        return {topic for topic, _ in batches}

    def _on_client_error(self, error: KafkaError) -> None:
        _log.warning("Kafka client: %s", error)
        if error.fatal():
            with self._changed:
                self._failure = f"The Kafka client failed: {error}"
                self._changed.notify_all()
