"""The line's topics on a real broker: made fresh for each case, written to, and watched."""

from __future__ import annotations

import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec, ResourceType  # type: ignore[attr-defined]
from confluent_kafka.cimpl import NewTopic

from tests.contract.records import Seen, Sent, now_us

PARTITION = 0
_TOPIC_CONFIG = {"retention.ms": "-1", "message.timestamp.type": "LogAppendTime"}


class Broker:
    """Administers and writes the topics; ``bootstrap_servers`` is where."""

    def __init__(self, bootstrap_servers: str, all_topics: Iterable[str]) -> None:
        self.bootstrap_servers = bootstrap_servers
        self._all_topics = tuple(all_topics)
        quiet: dict[str, str | int | float | bool] = {"bootstrap.servers": bootstrap_servers, "log_level": 0}
        self._admin = AdminClient(quiet)
        self._producer_config = {**quiet, "acks": "all", "linger.ms": 0, "message.max.bytes": 2_000_000}
        self._producer = Producer(self._producer_config)

    def topics(self) -> set[str]:
        """Those of the line's topics that exist."""
        return set(self._admin.list_topics(timeout=10).topics) & set(self._all_topics)

    def ends(self, topics: Iterable[str]) -> dict[str, int]:
        """The offset behind the last record of each topic."""
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        wanted = {TopicPartition(topic, PARTITION): latest for topic in topics}
        deadline = time.monotonic() + 10
        while wanted:
            try:
                return {at.topic: result.result().offset for at, result in self._admin.list_offsets(wanted).items()}
            except KafkaException:  # a topic that was made just now may have no leader yet
                if time.monotonic() > deadline:
                    raise
        return {}

    def reset(self, wanted: Iterable[str]) -> None:
        """Have exactly the ``wanted`` topics, all empty and with offsets from 0."""
        wanted, existing = set(wanted), self.topics()
        used = {topic for topic, end in self.ends(existing).items() if end > 0}
        unwanted = list(used | (existing - wanted))
        if unwanted:
            for result in self._admin.delete_topics(unwanted, operation_timeout=10).values():
                result.result()
        missing = [NewTopic(topic, 1, config=_TOPIC_CONFIG) for topic in wanted - (existing - set(unwanted))]
        deadline = time.monotonic() + 10
        while missing:
            created = self._admin.create_topics(missing)
            missing = [topic for topic in missing if not _is_made(created[topic.topic])]
            assert not missing or time.monotonic() < deadline, f"topics cannot be made again: {missing}"
        self._producer = Producer(self._producer_config)  # the last one remembers the topics that are gone

    def configs(self, topics: Iterable[str]) -> dict[str, tuple[int, dict[str, str]]]:
        """Partition count and settings of each topic."""
        known = self._admin.list_topics(timeout=10).topics
        resources = [ConfigResource(ResourceType.TOPIC, topic) for topic in topics]
        return {
            resource.name: (
                len(known[resource.name].partitions),
                {name: entry.value for name, entry in result.result().items()},
            )
            for resource, result in self._admin.describe_configs(resources).items()
        }

    def send(self, records: list[tuple[str, bytes | None, bytes | None, list[tuple[str, Any]]]]) -> list[Sent]:
        """Write (topic, key, value, headers) in this order; return when all are acknowledged."""
        sent: dict[int, Sent] = {}
        for index, (topic, key, value, headers) in enumerate(records):
            at = now_us()

            def delivered(error: KafkaError | None, message: Message, index: int = index, at: int = at) -> None:
                assert error is None, f"the case's own record was not taken: {error}"
                offset = message.offset()
                assert offset is not None
                sent[index] = Sent(str(message.topic()), offset, records[index][1], records[index][2], at)

            self._producer.produce(topic, value, key, PARTITION, on_delivery=delivered, headers=headers)
        self._producer.flush(10)
        return [sent[index] for index in range(len(records))]


def _is_made(result: Any) -> bool:
    try:
        result.result()
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # the old one is still on its way out
            raise
        return False
    return True


class Watch:
    """Everything that others write to ``topics``, in the order of each topic. A context manager."""

    def __init__(self, broker: Broker, topics: Iterable[str]) -> None:
        self._broker = broker
        self._topics = tuple(topics)
        self._own: dict[tuple[str, int], Sent] = {}
        self._read = dict.fromkeys(self._topics, 0)
        self.unclaimed: dict[str, list[Seen]] = {topic: [] for topic in self._topics}
        """Records of the service that no step has taken yet."""
        self.fresh: list[Seen] = []
        """Records that were read and not looked at yet."""
        self._consumer = Consumer(
            {
                "bootstrap.servers": broker.bootstrap_servers,
                "group.id": "contract",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "allow.auto.create.topics": False,
                "log_level": 0,
                "fetch.message.max.bytes": 4_194_304,
            }
        )
        self._consumer.assign([TopicPartition(topic, PARTITION, 0) for topic in self._topics])

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consumer.close()

    def own(self, sent: Iterable[Sent]) -> None:
        """These records are the case's."""
        self._own |= {(record.topic, record.offset): record for record in sent}

    def sent(self, topic: str, offset: int) -> Sent | None:
        """The case's record there, if it is the case's."""
        return self._own.get((topic, offset))

    def all_sent(self) -> list[Sent]:
        """All records of the case."""
        return list(self._own.values())

    def poll(self, timeout_s: float) -> bool:
        """Read one record; whether it was the service's."""
        message = self._consumer.poll(max(0.0, timeout_s))
        if message is None:
            return False
        error = message.error()
        if error is not None:
            assert error.retriable() or not error.fatal(), f"the case cannot read the line: {error}"
            return False
        topic, offset = str(message.topic()), message.offset()
        assert offset is not None
        self._read[topic] = offset + 1
        if (topic, offset) in self._own:
            return False
        key, value = message.key(), message.value()
        headers = message.headers() or []
        pairs = list(headers.items()) if isinstance(headers, dict) else headers
        seen = Seen(
            topic,
            offset,
            key.encode() if isinstance(key, str) else key,
            value.encode() if isinstance(value, str) else value,
            {name: text.decode() if isinstance(text, bytes) else str(text) for name, text in pairs},
            message.timestamp()[1],
        )
        self.unclaimed[topic].append(seen)
        self.fresh.append(seen)
        return True

    def read_to_end(self, timeout_s: float = 10.0) -> None:
        """Read everything that is in the topics now."""
        ends = self._broker.ends(self._topics)
        deadline = time.monotonic() + timeout_s
        while any(self._read[topic] < end for topic, end in ends.items()):
            assert time.monotonic() < deadline, "the case cannot read the line to its end"
            self.poll(0.1)
