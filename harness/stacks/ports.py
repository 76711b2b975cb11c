"""Ports on the loopback address: free ones, and who holds a taken one."""

from __future__ import annotations

import random
import socket
from pathlib import Path

from harness.errors import StackError

HOST = "127.0.0.1"
_EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_TCP_TABLE = Path("/proc/net/tcp")
_LISTEN = "0A"


def is_free(port: int) -> bool:
    """Whether a server could listen on ``port`` of the loopback address now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port that nobody listens on, from below the range that outgoing connections take theirs from.

    A port from within that range could be taken by a client while its server restarts; a client that keeps
    trying to reach it can even end up connected to itself.
    """
    try:
        ceiling = int(_EPHEMERAL_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        ceiling = 32768
    generator = random.SystemRandom()
    for _ in range(1000):
        port = generator.randrange(10_000, max(ceiling, 20_000))
        if is_free(port):
            return port
    raise StackError("no free port was found in 1000 tries", hint="Give the ports yourself.")


def chosen_port(port: int, purpose: str, how_to_move: str) -> int:
    """``port`` itself, or a free one for 0. Raises StackError when it is taken, naming its holder if known."""
    if port == 0:
        return free_port()
    if is_free(port):
        return port
    holder = port_holder(port)
    by = f" by {holder}" if holder else ""
    raise StackError(
        f"port {port}, wanted for {purpose}, is taken{by}",
        hint=f"Stop what holds it, or move the port: {how_to_move} (0 takes any free one).",
    )


def port_holder(port: int) -> str | None:
    """``process NAME (pid N)`` of who listens on ``port``; None where the system does not tell."""
    inodes = _listening_inodes(port)
    if not inodes:
        return None
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for descriptors in Path("/proc").glob("[0-9]*/fd"):
        try:
            if any(str(link.readlink()) in wanted for link in descriptors.iterdir()):
                name = (descriptors.parent / "comm").read_text().strip()
                return f"process {name} (pid {descriptors.parent.name})"
        except OSError:  # gone meanwhile, or another user's
            continue
    return None


def _listening_inodes(port: int) -> set[str]:
    inodes = set()
    for table in (_TCP_TABLE, _TCP_TABLE.with_name("tcp6")):
        try:
            rows = table.read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            fields = row.split()
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(fields[9])
    return inodes
