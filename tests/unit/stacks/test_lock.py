import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import LockHeld
from harness.line import ROOT
from harness.stacks.lock import run_lock

HOLDER = """
import sys, time
from pathlib import Path
from harness.stacks.lock import run_lock
with run_lock("burst.toml", Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_run_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with (
        run_lock("quickstart.toml", path),
        pytest.raises(LockHeld, match=rf"pid {os.getpid()}, scenario quickstart.toml, since 20\d\d-"),
        run_lock("burst.toml", path),
    ):
        pytest.fail("the lock was given twice")


def test_the_lock_is_free_after_its_holder_even_if_that_failed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with pytest.raises(ZeroDivisionError), run_lock("a much longer scenario name.toml", path):
        raise ZeroDivisionError
    with run_lock("b.toml", path), pytest.raises(LockHeld, match=r"scenario b.toml"), run_lock("c.toml", path):
        pytest.fail("the lock was given twice")


def test_a_killed_holder_leaves_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert holder.stdout is not None
    with holder.stdout:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LockHeld, match=rf"pid {holder.pid}, scenario burst.toml"), run_lock("x", path):
            pytest.fail("the lock was given twice")
        holder.kill()
        holder.wait()
    with run_lock("x", path):
        pass
