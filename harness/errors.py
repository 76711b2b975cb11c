"""Everything that can go wrong, each kind with its own exit code and a hint.

A message states the fact; the hint says what to do next. Only ``cli.py`` turns these into output and an exit.
"""

from __future__ import annotations


class HarnessError(Exception):
    """Base of all errors that the user can act on. ``exit_code`` is unique per class."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ScenarioError(HarnessError):
    """The scenario file or an override is wrong. Nothing was started."""

    exit_code = 2


class StackError(HarnessError):
    """The system under test could not be started or died; what had been started is stopped."""

    exit_code = 3


class DrainTimeout(HarnessError):
    """Orders were still open when the scenario's patience ended. What there is was archived."""

    exit_code = 4


class ThresholdsFailed(HarnessError):
    """The run went through, and at least one of its thresholds did not hold."""

    exit_code = 5


class LockHeld(HarnessError):
    """Another run uses this machine."""

    exit_code = 6


class KsqlError(HarnessError):
    """ksqlDB, or the engine in its place, refused a statement or did not answer."""

    exit_code = 7


class ArchiveError(HarnessError):
    """An archived run is missing, damaged or of a format that this version does not read."""

    exit_code = 8


class LoadError(HarnessError):
    """The load driver could not do its work."""

    exit_code = 9


class MissingTool(HarnessError):
    """A program that the harness needs is not on this machine."""

    exit_code = 10


class WaitTimeout(HarnessError):
    """A condition did not come true in time."""

    exit_code = 11
