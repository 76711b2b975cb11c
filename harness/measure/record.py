"""Reading topics back from a broker, in batches of columns: the raw material of every later question."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from harness.errors import StackError
from harness.line import ALL_TOPICS
from harness.measure.events import EVENTS_SCHEMA

BATCH_RECORDS = 50_000
BATCH_BYTES = 32 * 1024 * 1024
"""A batch ends at whichever comes first, so that neither many nor large records need much memory."""

_CONSUME = 2_000
_METADATA_TIMEOUT_S = 10.0


def read_topics(
    bootstrap_servers: str, topics: Sequence[str] = ALL_TOPICS, *, stall_timeout_s: float = 30.0
) -> Iterator[pa.RecordBatch]:
    """Every record of ``topics``, from the oldest to what was the end when this was called, in the EVENTS_SCHEMA.

    Batches come topic by topic and partition by partition, ordered by offset, and never mix topics; a topic without
    records has no batch. Commits nothing and joins no group. Raises StackError at once if a topic does not exist or
    the broker does not answer, and later if nothing comes for ``stall_timeout_s`` seconds.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "harness-recorder",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "check.crcs": True,
            # A fetch at a topic's end holds up the first one of the next topic: do not let it wait there.
            "fetch.wait.max.ms": 10,
            "fetch.queue.backoff.ms": 10,
            "queued.min.messages": 200_000,
        }
    )
    try:
        ends = end_offsets(consumer, topics)
    except BaseException:
        consumer.close()
        raise
    return _read(consumer, ends, stall_timeout_s)


def end_offsets(consumer: Consumer, topics: Sequence[str]) -> dict[tuple[str, int], tuple[int, int]]:
    """(oldest, end) offset by topic and partition. Raises StackError that names topics that do not exist."""
    try:
        known = consumer.list_topics(timeout=_METADATA_TIMEOUT_S).topics
        missing = [topic for topic in topics if topic not in known or known[topic].error is not None]
        if missing:
            raise StackError(
                f"no such topics: {', '.join(missing)}", hint="The line's initializer creates them; look at its log."
            )
        return {
            (topic, partition): consumer.get_watermark_offsets(
                TopicPartition(topic, partition), timeout=_METADATA_TIMEOUT_S
            )
            for topic in topics
            for partition in sorted(known[topic].partitions)
        }
    except KafkaException as error:
        raise StackError(f"the broker does not answer: {error.args[0].str()}") from error


def _read(
    consumer: Consumer, ends: dict[tuple[str, int], tuple[int, int]], stall_timeout_s: float
) -> Iterator[pa.RecordBatch]:
    try:
        for (topic, partition), (oldest, end) in ends.items():
            if oldest < end:
                yield from _read_partition(consumer, topic, partition, (oldest, end), stall_timeout_s)
    finally:
        consumer.close()


def _read_partition(
    consumer: Consumer, topic: str, partition: int, span: tuple[int, int], stall_timeout_s: float
) -> Iterator[pa.RecordBatch]:
    """A topic may have gaps (transaction markers), so reading ends at an offset, not at a number of records."""
    oldest, end = span
    consumer.assign([TopicPartition(topic, partition, oldest)])
    batch = _Batch(topic, partition)
    reached, heard = oldest, time.monotonic()
    while reached < end:
        messages = consumer.consume(min(_CONSUME, end - reached), timeout=0.2)
        before = reached
        with _no_collections():
            for message in messages:
                reached = max(reached, _take(batch, message, topic, end))
        if reached > before:
            heard = time.monotonic()
        elif time.monotonic() - heard > stall_timeout_s:
            raise StackError(f"the broker stopped answering: {topic} was read to offset {reached} of {end}")
        if batch.is_full():
            yield batch.take()
    if batch.offsets:
        yield batch.take()


def _take(batch: _Batch, message: Message, topic: str, end: int) -> int:
    """Add the record unless it is beyond the end; returns the offset up to which the topic is read now."""
    error = message.error()
    if error is None:
        offset = message.offset()
        assert offset is not None
        if offset < end:
            batch.add(offset, message)
        return offset + 1
    if error.code() == KafkaError._PARTITION_EOF:
        return end if message.topic() == topic else 0
    if error.fatal() or error.code() == KafkaError._AUTO_OFFSET_RESET:
        raise StackError(f"{topic} cannot be read to its end: {error.str()}")
    return 0  # the client reconnects by itself; a broker that stays away is noticed above


@contextmanager
def _no_collections() -> Iterator[None]:
    """No cyclic garbage arises here, and looking for some takes a third of a recording's time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Batch:
    """Records collected as columns, headers as flat names and texts: no object per record outlives its reading."""

    def __init__(self, topic: str, partition: int) -> None:
        self._topic, self._partition = topic, partition
        self._clear()

    def _clear(self) -> None:
        self.offsets: list[int] = []
        self._timestamps: list[int] = []
        self._keys: list[bytes | None] = []
        self._values: list[bytes | None] = []
        self._header_ends: list[int] = [0]
        self._header_names: list[str] = []
        self._header_texts: list[bytes | None] = []
        self._bytes = 0

    def add(self, offset: int, message: Message) -> None:
        value: Any = message.value()
        key: Any = message.key()
        headers: Any = message.headers()
        self.offsets.append(offset)
        self._timestamps.append(message.timestamp()[1])
        self._keys.append(key)
        self._values.append(value)
        if headers:
            for name, text in headers:
                self._header_names.append(name)
                self._header_texts.append(text)
        self._header_ends.append(len(self._header_names))
        self._bytes += len(value or b"") + len(key or b"")

    def is_full(self) -> bool:
        return len(self.offsets) >= BATCH_RECORDS or self._bytes >= BATCH_BYTES

    def take(self) -> pa.RecordBatch:
        """What was collected; the batch is empty afterwards."""
        n = len(self.offsets)
        header_type: Any = EVENTS_SCHEMA.field("headers").type
        headers = pa.StructArray.from_arrays(
            [pa.array(self._header_names, pa.string()), pa.array(self._header_texts, pa.binary())],
            fields=list(header_type.value_type),
        )
        columns: list[pa.Array[Any]] = [
            pa.DictionaryArray.from_arrays(pa.array([0] * n, pa.int32()), pa.array([self._topic])),
            pa.array([self._partition] * n, pa.int32()),
            pa.array(self.offsets, pa.int64()),
            pa.array(self._timestamps, pa.int64()).cast(pa.timestamp("ms", tz="UTC")),
            pa.array(self._keys, pa.binary()),
            pa.array(self._values, pa.binary()),
            pa.ListArray.from_arrays(pa.array(self._header_ends, pa.int32()), headers, type=header_type),
        ]
        self._clear()
        return pa.RecordBatch.from_arrays(columns, schema=EVENTS_SCHEMA)
