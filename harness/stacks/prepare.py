"""Makes what the broker's later starts reuse, so that not even the first run waits for it: ``make setup`` runs this.

``python -m harness.stacks.prepare`` starts a broker in a temporary folder and stops it. That leaves the formatted
storage and the class-data archive of this Java and these jars under ``.kafka``; there already, it does nothing.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from harness.stacks.java import KAFKA_DIR, find_java, find_kafka
from harness.stacks.kafka_cache import ClassArchive
from harness.stacks.kafka_process import LocalKafka


def prepare() -> None:
    """About 10 s the first time. Raises what LocalKafka raises."""
    if not ClassArchive(find_java(), find_kafka(), KAFKA_DIR).being_made:
        return
    with tempfile.TemporaryDirectory() as folder:
        broker = LocalKafka(Path(folder, "data"), log_file=Path(folder, "kafka.log"))
        with broker:
            pass


if __name__ == "__main__":
    prepare()
