import os
from pathlib import Path

import pytest

from harness.stacks.leftovers import remove_leftovers


def test_the_work_folders_of_killed_runs_are_removed_with_all_they_hold(tmp_path: Path) -> None:
    for name in ("line-b", "line-a"):
        (tmp_path / name / "logs").mkdir(parents=True)
        (tmp_path / name / "logs" / "kafka.log").write_text("killed")
    assert remove_leftovers("line-", tmp_path) == [tmp_path / "line-a", tmp_path / "line-b"]
    assert list(tmp_path.iterdir()) == []


def test_files_links_and_folders_of_other_names_stay(tmp_path: Path) -> None:
    (tmp_path / "line-harness.lock").touch()
    (tmp_path / "other" / "precious").mkdir(parents=True)
    (tmp_path / "line-link").symlink_to(tmp_path / "other")
    assert remove_leftovers("line-", tmp_path) == []
    assert {entry.name for entry in tmp_path.iterdir()} == {"line-harness.lock", "other", "line-link"}
    assert (tmp_path / "other" / "precious").is_dir()


def test_another_users_folder_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "line-a").mkdir()
    monkeypatch.setattr(os, "getuid", lambda: (tmp_path / "line-a").stat().st_uid + 1)
    assert remove_leftovers("line-", tmp_path) == []
    assert (tmp_path / "line-a").is_dir()


def test_a_folder_that_does_not_exist_holds_no_leftovers(tmp_path: Path) -> None:
    assert remove_leftovers("line-", tmp_path / "nowhere") == []
