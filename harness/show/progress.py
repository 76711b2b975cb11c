"""A run's progress on a terminal; plain lines where there is none."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class ConsoleWatcher:
    """A ``harness.run.Watcher`` that shows the current phase as a bar and leaves a line of each phase behind."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
            refresh_per_second=4,  # the line under test shares this machine
        )
        self._task: TaskID | None = None
        self._title = ""
        self._count = ""
        self._began = 0.0

    def __enter__(self) -> ConsoleWatcher:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finish_phase()
        self._bars.stop()

    def phase(self, title: str) -> None:
        self._finish_phase()
        self._title, self._count, self._began = title, "", time.monotonic()
        self._task = self._bars.add_task(title, total=None, count="")

    def progress(self, done: int, total: int, unit: str) -> None:
        self._count = f"{done} of {total} {unit}"
        if self._task is not None:
            self._bars.update(self._task, completed=done, total=total or None, count=self._count)

    def note(self, text: str) -> None:
        self._console.print(f"  {text}", style="dim", markup=False, highlight=False)

    def _finish_phase(self) -> None:
        if self._task is None:
            return
        self._bars.remove_task(self._task)
        self._task = None
        seconds = time.monotonic() - self._began
        count = f"  ({self._count})" if self._count else ""
        self._console.print(f"{self._title:<28}{seconds:6.1f} s{count}", markup=False, highlight=False)
