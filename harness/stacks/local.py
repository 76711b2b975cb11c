"""The whole line on this machine: Kafka, the ten services and the ksqlDB engine, each its own process."""

from __future__ import annotations

import json
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from harness.line import MACHINES, ROOT
from harness.scenario import LineSettings
from harness.stacks import kafka_process
from harness.stacks.base import Endpoints
from harness.stacks.kafka_process import LocalKafka
from harness.stacks.ports import HOST, chosen_port
from harness.stacks.signals import signals_deferred
from harness.stacks.supervisor import Service, Supervisor
from harness.waiting import wait_until

ORDER_PROCESSING = "order-processing"
INITIALIZER = "kafka-initializer"
KSQLDB = "ksqldb"

READY_TIMEOUT_S = 60.0
"""For each phase of the start; on two idle cores the whole of it takes a tenth of that."""


@dataclass(frozen=True)
class Ports:
    """Loopback ports; 0 takes a free one. The defaults are the specification's."""

    kafka: int = 9092
    orders: int = 8082
    ksqldb: int = 8088


class LocalStack:
    """The ``local`` stack. See ``harness.stacks.base.Stack`` for what its methods promise.

    ``work_dir`` takes the broker's data, which ``down`` removes, and ``logs/``, which stays. ``progress`` hears
    one line per phase, with its duration, and of restarts; the latter from another thread.
    """

    name = "local"

    def __init__(
        self,
        line: LineSettings,
        *,
        work_dir: Path,
        ports: Ports | None = None,
        progress: Callable[[str], None] = lambda _text: None,
    ) -> None:
        """Takes the ports and finds what the broker needs; nothing is started or written.

        Raises StackError when a given port is in use, telling by whom; MissingTool without Java or Kafka's jars.
        """
        wanted = ports or Ports()
        self._line = line
        self._work_dir = work_dir.resolve()
        self._progress = progress
        self._supervisor = Supervisor(on_event=progress)
        self._orders_port = chosen_port(wanted.orders, "the order API", "--orders-port")
        self._ksqldb_port = chosen_port(wanted.ksqldb, "ksqlDB", "--ksqldb-port")
        self.kafka = LocalKafka(
            self._work_dir / "kafka-data",
            port=wanted.kafka,
            log_file=self._log_file("kafka"),
            supervisor=self._supervisor,
        )
        """The broker: fault tests kill it and start it again."""

    @property
    def endpoints(self) -> Endpoints:
        return Endpoints(
            bootstrap_servers=self.kafka.bootstrap_servers,
            ksqldb_url=f"http://{HOST}:{self._ksqldb_port}",
            orders_url=f"http://{HOST}:{self._orders_port}",
        )

    @property
    def restarts(self) -> dict[str, int]:
        """How often each service that died was restarted."""
        return dict(self._supervisor.restarts)

    @property
    def services(self) -> tuple[str, ...]:
        """Names of the long-running services of the line: the machines' topics and ``order-processing``."""
        return (*(machine.topic for machine in MACHINES), ORDER_PROCESSING)

    def __enter__(self) -> LocalStack:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def up(self) -> None:
        self.reset()
        self._log_file("kafka").parent.mkdir(parents=True, exist_ok=True)
        with self._stopped_on_failure():
            with self._phase("Kafka"):
                self.kafka.start()
            self._supervisor.start(self._engine())
            with self._phase("topics"):
                self._supervisor.run_once(self._initializer(), READY_TIMEOUT_S)
            for service in (*self._machines(), self._order_processing()):
                self._supervisor.start(service)

    def ready(self) -> None:
        with self._stopped_on_failure():
            with self._phase("machines and order processing"):
                self._supervisor.wait_ready(self.services, READY_TIMEOUT_S)
            with self._phase("ksqlDB"):
                wait_until(self._ksqldb_is_healthy, READY_TIMEOUT_S, "a healthy ksqlDB engine", interval_s=0.02)

    def check(self) -> None:
        self._supervisor.check()

    def kill(self, service: str) -> None:
        """SIGKILL a service; its supervisor restarts it. ``wait_ready`` tells when it is back."""
        self._supervisor.kill(service)

    def wait_ready(self, service: str, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Return when the service has reported to be ready since its last start."""
        self._supervisor.wait_ready([service], timeout_s)

    def pid(self, service: str) -> int:
        """Process id of a running service."""
        return self._supervisor.pid(service)

    def reset(self) -> None:
        with signals_deferred():
            # The broker last: services that lose it would end with errors in their logs.
            self._supervisor.stop([name for name in self._supervisor.started() if name != kafka_process.NAME])
            self.kafka.stop()
            self._supervisor.stop()
        shutil.rmtree(self.kafka.data_dir, ignore_errors=True)

    def down(self) -> None:
        self.reset()

    def logs(self) -> dict[str, Path]:
        return {file.stem: file for file in sorted((self._work_dir / "logs").glob("*.log"))}

    def facts(self) -> Mapping[str, object]:
        return {
            "name": self.name,
            "broker": self.kafka.facts(),
            "ksqldb": "embedded engine",
            "endpoints": vars(self.endpoints),
            "restarts": self.restarts,
            "replaced_machines": {
                topic: list(machine.command)
                for topic, machine in self._line.machines.items()
                if machine.command is not None
            },
        }

    # -- the services --------------------------------------------------------------------------------------

    def _machines(self) -> Iterator[Service]:
        for machine in MACHINES:
            settings = self._line.machines[machine.topic]
            command = settings.command or _module(machine.module)
            work = {"WORK_MS": settings.work_ms, "WORK_MS_PER_TOPPING": settings.work_ms_per_topping}
            yield self._service(machine.topic, tuple(command), {key: str(value) for key, value in work.items()})

    def _order_processing(self) -> Service:
        address = {"HOST": HOST, "PORT": str(self._orders_port)}
        return self._service(ORDER_PROCESSING, _module("machines.order_processing"), address)

    def _initializer(self) -> Service:
        return self._service(INITIALIZER, _module("machines.kafka_initializer"), {})

    def _engine(self) -> Service:
        address = ("--bootstrap-servers", self.kafka.bootstrap_servers, "--host", HOST, "--port")
        command = _module("harness.ksqldb.embedded", *address, str(self._ksqldb_port))
        # It keeps its tables in memory: a restart would lose them, so its death ends the run.
        return self._service(KSQLDB, command, {}, restart=False)

    def _service(self, name: str, command: tuple[str, ...], env: Mapping[str, str], *, restart: bool = True) -> Service:
        common = {
            "BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "TIME_SCALE": str(self._line.time_scale),
            "CAPACITY": str(self._line.capacity),
            "PYTHONUNBUFFERED": "1",
        }
        for topic in self._line.machines:
            common[f"CAPACITY_{topic.upper().replace('-', '_')}"] = str(self._line.capacity_of(topic))
        return Service(name, command, self._log_file(name), cwd=ROOT, env={**common, **env}, restart=restart)

    def _log_file(self, service: str) -> Path:
        return self._work_dir / "logs" / f"{service}.log"

    # -- helpers -------------------------------------------------------------------------------------------

    def _ksqldb_is_healthy(self) -> bool:
        self._supervisor.check()
        self._supervisor.require_running(KSQLDB)
        try:
            with urllib.request.urlopen(f"{self.endpoints.ksqldb_url}/healthcheck", timeout=2.0) as answer:
                return json.load(answer).get("isHealthy") is True
        except (urllib.error.URLError, OSError, ValueError):
            return False

    @contextmanager
    def _phase(self, what: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._progress(f"{what}: ready after {time.perf_counter() - started:.1f} s")

    @contextmanager
    def _stopped_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.reset()
            raise


def _module(name: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", name, *arguments)
