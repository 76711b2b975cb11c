import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import LockHeld, StackError
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


def test_the_lock_file_serves_every_user_whatever_the_umask_of_its_maker(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    umask = os.umask(0o077)
    try:
        with run_lock("x", path):
            assert path.stat().st_mode & 0o777 == 0o666
    finally:
        os.umask(umask)


def test_the_permissions_of_a_lock_file_that_lay_there_are_its_owners_business(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    path.chmod(0o660)
    with run_lock("x", path):
        assert path.stat().st_mode & 0o777 == 0o660


@pytest.mark.parametrize("place", [".", "no-folder/lock"])
def test_a_lock_file_that_cannot_be_opened_is_an_error_with_a_hint(tmp_path: Path, place: str) -> None:
    with pytest.raises(StackError, match="cannot be used") as caught, run_lock("x", tmp_path / place):
        pytest.fail("held without a lock")
    assert str(tmp_path / place) in caught.value.hint
