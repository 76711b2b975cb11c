"""The embedded engine as a program: ``python -m harness.ksqldb.embedded --bootstrap-servers HOST:PORT``."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import socket
import sys
from datetime import UTC, datetime
from types import FrameType

import uvicorn

from harness.ksqldb.embedded.engine import Engine
from harness.ksqldb.embedded.kafka_source import KafkaSource
from harness.ksqldb.embedded.server import application

SERVICE = "ksqldb"
_log = logging.getLogger("harness.ksqldb.embedded")


class JsonLines(logging.Formatter):
    """One JSON object per log record: time, level, service, event, and the record's own ``fields``."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": SERVICE,
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class _Server(uvicorn.Server):
    """uvicorn, but it says when it answers."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if not self.should_exit:
            port = next(s.sockets[0].getsockname()[1] for s in self.servers)
            _log.info("ready", extra={"fields": {"port": port}})


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit status: 0 after a signal, 1 when it could not serve."""
    parser = argparse.ArgumentParser(prog="python -m harness.ksqldb.embedded", description=__doc__)
    parser.add_argument("--bootstrap-servers", required=True, help="Kafka, as host:port[,host:port...]")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8088, help="0 takes a free one; the event 'ready' names it")
    options = parser.parse_args(arguments)

    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)

    # uvicorn stops at these signals by itself and then raises them again: to exit with 0, they end here.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _ignore)

    engine = Engine(KafkaSource(options.bootstrap_servers))
    try:
        server = _Server(
            uvicorn.Config(
                application(engine),
                host=options.host,
                port=options.port,
                lifespan="off",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=3,
            )
        )
        server.run()
    except SystemExit:
        _log.error("could not serve", extra={"fields": {"host": options.host, "port": options.port}})
        return 1
    finally:
        engine.close()
    _log.info("stopped")
    return 0


def _ignore(_signal: int, _frame: FrameType | None) -> None:
    """Signals are uvicorn's."""


if __name__ == "__main__":
    sys.exit(main())
