import json
import subprocess
from pathlib import Path

import pytest

from harness.environment import NoiseSampler, describe_environment, git_state


def write_proc(proc: Path, ticks: str, load: str) -> None:
    (proc / "stat").write_text(f"cpu  {ticks} 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n")
    (proc / "loadavg").write_text(f"{load} 0.10 0.05 1/100 1234\n")


def test_the_environment_is_json_and_names_what_figures_depend_on() -> None:
    facts = json.loads(json.dumps(describe_environment({"kafka": "4.3.1"})))
    assert facts["cpu"]["count"] >= facts["cpu"]["usable"] >= 1
    assert facts["memory_bytes"] > 2**28
    assert facts["versions"]["kafka"] == "4.3.1"
    assert facts["versions"]["librdkafka"].count(".") >= 2


def test_a_folder_outside_git_has_no_git_state(tmp_path: Path) -> None:
    assert git_state(tmp_path) is None


def test_a_changed_tracked_file_makes_the_checkout_dirty(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        subprocess.run(("git", "-C", str(tmp_path), *identity, *arguments), check=True, capture_output=True)

    git("init")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-m", "first")
    clean = git_state(tmp_path)
    (tmp_path / "file").write_text("two")
    dirty = git_state(tmp_path)
    assert clean is not None
    assert dirty is not None
    assert (clean["dirty"], dirty["dirty"]) == (False, True)
    assert clean["commit"] == dirty["commit"]


def test_noise_is_told_as_shares_of_the_stretch_with_the_worst_sample(tmp_path: Path) -> None:
    write_proc(tmp_path, "100 0 0 900 0 0 0 0", "0.50")
    with NoiseSampler(interval_s=1000, proc=tmp_path) as noise:
        write_proc(tmp_path, "150 0 0 930 10 0 0 10", "2.00")  # of 100 ticks: 60 busy, 10 of them stolen
        noise.sample()
        write_proc(tmp_path, "150 0 0 1030 10 0 0 10", "1.00")  # 100 idle ticks
    told = noise.summary()
    assert told["busy"] == {"mean": pytest.approx(0.3), "max": pytest.approx(0.6)}
    assert told["steal"] == {"mean": pytest.approx(0.05), "max": pytest.approx(0.1)}
    assert (told["load_before"], told["load_after"], told["load_max"]) == (0.5, 1.0, 2.0)


def test_without_proc_there_is_no_noise_to_tell(tmp_path: Path) -> None:
    with NoiseSampler(proc=tmp_path) as noise:
        pass
    assert noise.summary() == {}
