from pathlib import Path

import pytest

from harness.stacks.logs import LogTail, last_lines, says_ready


@pytest.mark.parametrize(
    "line",
    [
        '{"time": "2026-01-01T00:00:00Z", "level": "info", "service": "oven", "event": "ready"}',
        "Oven is ready",
        "2026/01/01 12:00:00 READY, subscribed to oven-machine",
    ],
)
def test_a_ready_event_or_the_plain_word_means_ready(line: str) -> None:
    assert says_ready(line)


@pytest.mark.parametrize(
    "line",
    [
        "",
        '{"event": "subscribed", "note": "not ready"}',
        '{"event": "ready"',
        "already subscribed",
        "not ready yet",
        "waiting until the broker is ready",
    ],
)
def test_other_lines_do_not_mean_ready(line: str) -> None:
    assert not says_ready(line)


def test_a_tail_gives_whole_new_lines_once(tmp_path: Path) -> None:
    log = tmp_path / "oven.log"
    log.write_text("from an earlier life\n")
    tail = LogTail(log)
    assert tail.new_lines() == []
    with log.open("a") as file:
        file.write("first\nsec")
        file.flush()
        assert tail.new_lines() == ["first"]
        file.write("ond\n")
        file.flush()
        assert tail.new_lines() == ["second"]
    assert tail.new_lines() == []


def test_a_tail_waits_for_a_file_that_does_not_exist_yet(tmp_path: Path) -> None:
    tail = LogTail(tmp_path / "late.log")
    assert tail.new_lines() == []
    (tmp_path / "late.log").write_text("here\n")
    assert tail.new_lines() == ["here"]


def test_last_lines_are_few_and_short(tmp_path: Path) -> None:
    log = tmp_path / "oven.log"
    log.write_text("".join(f"{number} {'x' * 1000}\n\n" for number in range(100)))
    lines = last_lines(log, count=3, width=10)
    assert lines == ["97 xxxxxxx", "98 xxxxxxx", "99 xxxxxxx"]
    assert last_lines(tmp_path / "none.log") == []
