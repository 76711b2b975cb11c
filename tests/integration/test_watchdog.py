import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.line import ROOT
from harness.waiting import wait_until
from tests.integration.processes import marked, new_mark

STARTS_WITHOUT_END = """
import itertools, sys
from pathlib import Path
from harness.stacks.supervisor import Service, Supervisor
folder = Path(sys.argv[1])
with Supervisor() as supervisor:
    print("starting", flush=True)
    for number in itertools.count():
        supervisor.start(Service(f"sleeper {number}", ("/bin/sleep", "600"), folder / "log", cwd=folder))
"""


@pytest.mark.parametrize("seed", range(8))
def test_a_harness_killed_in_the_middle_of_starting_services_leaves_none(tmp_path: Path, seed: int) -> None:
    mark = new_mark()
    with subprocess.Popen(
        (sys.executable, "-c", STARTS_WITHOUT_END, tmp_path),
        cwd=ROOT,
        env={**os.environ, **mark},
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(random.Random(seed).uniform(0.0, 0.1))  # any moment will do: this is not a wait for anything
        process.kill()
    wait_until(lambda: not marked(mark), 10, "end of all its processes")
