"""Where records come from: the interface between the engine and Kafka."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Chunk(NamedTuple):
    """Consecutive records of one partition: ``values[i]`` has the offset ``offsets[i]``, ascending."""

    partition: int
    offsets: Sequence[int]
    values: Sequence[bytes | None]


class Sink(Protocol):
    """Takes the records of one topic. Called by one thread at a time; must be quick."""

    def accept(self, chunk: Chunk) -> None: ...

    def settle(self) -> None:
        """Called now and then after records were accepted: time to work them in."""


class UnknownTopic(Exception):
    """There is no such topic."""


class SourceFailure(Exception):
    """The records cannot be had, now or (when ``healthy`` keeps saying no) ever; the message says why."""


class RecordSource(Protocol):
    """Topics that can be read from their beginning and on as they grow."""

    def cluster_id(self) -> str:
        """Kafka's id of the cluster. Raises SourceFailure."""

    def partition_count(self, topic: str) -> int:
        """Raises UnknownTopic or SourceFailure."""

    def follow(self, topic: str, sink: Sink) -> None:
        """Give ``sink`` every record of ``topic``, from the first one on. A sink may be given the same record again."""

    def catch_up(self, topics: frozenset[str]) -> None:
        """Return when every record that was readable in ``topics`` at the call was given to its sinks.

        Raises SourceFailure when that cannot be had in time.
        """

    def problem(self) -> str | None:
        """Why the records cannot be had at present, or None when all is well."""

    def close(self) -> None:
        """Stop reading. Returns when no sink is called any more."""
