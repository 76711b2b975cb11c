"""A real Apache Kafka on the loopback address, as a child process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from harness.stacks.java import KAFKA_DIR, find_java, find_kafka
from harness.stacks.kafka_cache import ClassArchive, format_storage
from harness.stacks.kafka_settings import JVM_OPTIONS, properties_text, server_properties
from harness.stacks.ports import HOST, chosen_port, free_port
from harness.stacks.supervisor import Service, Supervisor
from harness.waiting import wait_until

NAME = "kafka"
START_TIMEOUT_S = 60.0
GRACE_S = 10.0
GRACE_MAKING_ARCHIVE_S = 60.0
"""The class-data archive is written while the broker ends: 4 s on two idle cores."""
_LOG_CONFIGURATION = Path(__file__).parent / "kafka" / "log4j2.properties"
_STARTED = "Kafka Server started"


class LocalKafka:
    """One broker with its data in ``data_dir``: a context manager that starts and stops it.

    It can be killed and started again on the same data and port. Made without Java 17 or the jars, it raises
    MissingTool; StackError when a given port is taken or the broker does not start (with its last log lines).
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int = 0,
        log_file: Path,
        supervisor: Supervisor | None = None,
        settings: Mapping[str, str] | None = None,
        jvm_options: tuple[str, ...] = (),
    ) -> None:
        """``port`` 0 takes a free one. A ``supervisor`` given restarts a broker that dies; without one it stays down.

        ``settings`` and ``jvm_options`` come on top of the harness's own. ``data_dir`` is made when missing,
        and formatted when it holds no cluster.
        """
        self._java, self._jars = find_java(), find_kafka()
        self.data_dir = data_dir
        self.log_file = log_file
        self.port = chosen_port(port, "Kafka", "--kafka-port")
        self._controller_port = free_port()
        self._settings = dict(settings or {})
        self._jvm_options = jvm_options
        self._shared = supervisor is not None
        self._supervisor = supervisor or Supervisor()
        self._archive: ClassArchive | None = None

    @property
    def bootstrap_servers(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """Process id of the running broker. Raises StackError when it is down."""
        return self._supervisor.pid(NAME)

    def __enter__(self) -> LocalKafka:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the broker and return when it answers; on the data of last time if there is any."""
        self.begin_start()
        self.wait_started()

    def begin_start(self) -> None:
        """The first half of ``start``: format if need be, launch, and return."""
        java, jars = self._java, self._jars
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        properties = self.data_dir.with_name(self.data_dir.name + ".properties")
        settings = server_properties(self.data_dir, self.port, self._controller_port) | self._settings
        properties.write_text(properties_text(settings))
        if not (self.data_dir / "meta.properties").exists():
            format_storage(self.data_dir, properties, java, jars, KAFKA_DIR)
        self._archive = ClassArchive(java, jars, KAFKA_DIR)
        command = (
            str(java.program),
            *JVM_OPTIONS,
            *self._archive.options(),
            *self._jvm_options,
            f"-Dlog4j2.configurationFile={_LOG_CONFIGURATION}",
            "-cp",
            jars.class_path,
            "kafka.Kafka",
            str(properties),
        )
        self._supervisor.start(
            Service(
                NAME,
                command,
                self.log_file,
                cwd=self.data_dir,
                is_ready=lambda line: _STARTED in line,
                restart=self._shared,
            )
        )

    def wait_started(self) -> None:
        """The second half of ``start``: return when the broker answers a client."""
        self._supervisor.wait_ready([NAME], START_TIMEOUT_S)
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})
        wait_until(lambda: _answers(admin), START_TIMEOUT_S, f"an answer of Kafka at {self.bootstrap_servers}")

    def facts(self) -> dict[str, object]:
        """What an archive should know: versions, JVM options, and the settings that are not Kafka's defaults."""
        settings = server_properties(self.data_dir, self.port, self._controller_port) | self._settings
        return {
            "kafka": self._jars.version,
            "java": self._java.version,
            "jvm_options": [*JVM_OPTIONS, *self._jvm_options],
            "settings": settings,
        }

    def kill(self) -> None:
        """SIGKILL, and return when the process is gone. It stays down until ``start``."""
        self._supervisor.kill(NAME, restart=False)

    def stop(self) -> None:
        """Stop the broker in order; its data stays. Does nothing when it is down."""
        archive = self._archive
        grace_s = GRACE_MAKING_ARCHIVE_S if archive is not None and archive.being_made else GRACE_S
        if NAME in self._supervisor.running():
            self._supervisor.stop([NAME], grace_s=grace_s)
        if not self._shared:
            self._supervisor.stop()
        if archive is not None:
            archive.keep()


def _answers(admin: AdminClient) -> bool:
    try:
        return bool(admin.list_topics(timeout=1.0).brokers)
    except KafkaException:
        return False
