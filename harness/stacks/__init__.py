"""Systems under test. ``STACKS`` holds what ``--stack`` can name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from harness.scenario import LineSettings
from harness.stacks.base import Endpoints, Stack
from harness.stacks.local import LocalStack, Ports

__all__ = ["STACKS", "Endpoints", "LocalStack", "Ports", "Stack", "StackFactory"]


class StackFactory(Protocol):
    """Makes a stack for one run; nothing is started yet. Raises MissingTool or StackError if it never could be."""

    def __call__(
        self, line: LineSettings, *, work_dir: Path, ports: Ports, progress: Callable[[str], None]
    ) -> Stack: ...


STACKS: dict[str, StackFactory] = {"local": LocalStack}
