"""The process that outlives a killed harness just long enough to kill what it had started.

Run as a program, with a pipe as standard input. Each service writes a line ``+PID`` as it starts, the harness
``-PID`` when that process group is gone. The pipe ends when the harness ends, however it ends; then every group
still named gets SIGKILL. (PR_SET_PDEATHSIG would not do: it is tied to the thread that forked, and it misses what
the service itself had started.)

It imports nothing beyond the interpreter's core, so that it starts in about 10 ms (``python -I -S``).
"""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin.buffer:
        sign, group = line[:1], int(line[1:])
        if sign == b"+":
            groups.add(group)
        else:
            groups.discard(group)
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


if __name__ == "__main__":
    main()
