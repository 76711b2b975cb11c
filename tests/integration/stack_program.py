"""A harness process for tests to end: brings the line up, then waits. Usage: stack_program.py WORK_DIR

It prints "starting", each phase of the start as it ends, and "ready".
"""

import sys
import threading
from pathlib import Path

from harness.scenario import LineSettings
from harness.stacks import LocalStack, Ports
from harness.stacks.signals import signals_as_exceptions


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


def main(work_dir: Path) -> None:
    with (
        signals_as_exceptions(),
        LocalStack(LineSettings(), work_dir=work_dir, ports=Ports(0, 0, 0), progress=say) as stack,
    ):
        say("starting")
        stack.up()
        stack.ready()
        say("ready")
        threading.Event().wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
