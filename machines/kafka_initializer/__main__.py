"""Creates every topic of the line that is not there yet, and ends."""

import sys
import time

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from machines.runtime.logs import Log
from machines.runtime.service import settings_or_exit

MACHINES = (
    "dough-machine",
    "dough-shaper",
    "sauce-machine",
    "cheese-machine",
    "meat-machine",
    "vegetables-machine",
    "oven-machine",
    "freezer-machine",
    "packaging-machine",
)
TOPICS = (
    *MACHINES,
    *(f"{machine}-done" for machine in MACHINES),
    "pizza-done",
    "order-stack",
    "order-processing",
    "order-done",
    "dead-letter",
)
FOREVER = {"retention.ms": "-1", "retention.bytes": "-1", "cleanup.policy": "delete"}


def main() -> None:
    log = Log("kafka-init")
    settings = settings_or_exit(log)
    admin = AdminClient(
        {
            "bootstrap.servers": settings.bootstrap_servers,
            "reconnect.backoff.ms": 20,
            "reconnect.backoff.max.ms": 500,
        }
    )
    deadline = time.monotonic() + settings.startup_timeout_s
    try:
        existing = _topics(admin, deadline)
        wanted = [NewTopic(topic, settings.partitions, config=FOREVER) for topic in TOPICS if topic not in existing]
        for topic, created in admin.create_topics(wanted).items() if wanted else ():
            try:
                created.result()
                log.info("topic created", topic=topic, partitions=settings.partitions)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
    except (KafkaException, TimeoutError) as error:
        log.error("failed", reason=error.args[0].str() if isinstance(error, KafkaException) else str(error))
        sys.exit(1)
    log.info("ready", topics=len(TOPICS), created=len(wanted))


def _topics(admin: AdminClient, deadline: float) -> set[str]:
    """The topics that exist, asked until a broker answers or ``deadline`` has passed."""
    while True:
        try:
            return set(admin.list_topics(timeout=2.0).topics)
        except KafkaException as error:
            if time.monotonic() >= deadline:
                raise TimeoutError(f"no broker answered: {error.args[0].str()}") from None


if __name__ == "__main__":
    main()
