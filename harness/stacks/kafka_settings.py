"""Settings of the local stack's broker: one KRaft node that is broker and controller, on the loopback address."""

from __future__ import annotations

from pathlib import Path

from harness.stacks.ports import HOST

NODE_ID = 1

JVM_OPTIONS: tuple[str, ...] = (
    "-Xms128m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    # The first compiler only. The second one would take half a core for the first minutes of every run, which is most
    # of a run: time that the line on the same machine would seem to need.
    "-XX:TieredStopAtLevel=1",
    "-Xshare:auto",
    "-Djava.awt.headless=true",
)


def server_properties(data_dir: Path, port: int, controller_port: int) -> dict[str, str]:
    """The broker's properties. Ports are fixed numbers, so that a restart is found where it was."""
    return {
        "process.roles": "broker,controller",
        "node.id": str(NODE_ID),
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        # A fixed set of voters instead of one written into the metadata log: a formatted folder then holds
        # no port, and a copy of it serves every later start.
        "controller.quorum.voters": f"{NODE_ID}@{HOST}:{controller_port}",
        "log.dirs": str(data_dir),
        "auto.create.topics.enable": "false",
        # A hop is made of wake-ups: few threads that stay warm take a third less processor time per request than the
        # default eight and three, which are meant for many cores and slow disks.
        "num.network.threads": "1",
        "num.io.threads": "2",
        "num.partitions": "1",
        "default.replication.factor": "1",
        "offsets.topic.num.partitions": "1",
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.num.partitions": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        # A killed broker is let in again only when its former self has timed out: 9 s by default.
        "broker.session.timeout.ms": "2000",
        "broker.heartbeat.interval.ms": "250",
        # The default takes 128 MiB of the heap at the start, for compacting topics that this line does not have.
        "log.cleaner.dedupe.buffer.size": str(2 * 1024 * 1024),
    }


def properties_text(properties: dict[str, str]) -> str:
    """``key=value`` lines, as Java's Properties reads them (only backslashes need care in our values)."""
    return "".join(f"{key}={value.replace(chr(92), chr(92) * 2)}\n" for key, value in properties.items())
