"""What every stack can do, whatever it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol


@dataclass(frozen=True)
class Endpoints:
    """Where the parts of a stack answer. URLs have no trailing slash."""

    bootstrap_servers: str
    ksqldb_url: str
    orders_url: str


class Stack(Protocol):
    """A whole running system under test.

    Use: ``with stack: stack.up(); stack.ready(); ...``. Leaving the block stops everything, also after an
    error, Ctrl-C or a failed start. The methods raise StackError, MissingTool or WaitTimeout.
    """

    @property
    def name(self) -> str:
        """As the user names it: ``local``."""
        ...

    @property
    def endpoints(self) -> Endpoints:
        """Addresses, valid from ``up`` to ``down``."""
        ...

    def up(self) -> None:
        """Launch the whole system on empty data. On failure nothing is left running."""
        ...

    def ready(self) -> None:
        """Return when every service has reported that it is ready. On failure nothing is left running."""
        ...

    def check(self) -> None:
        """Raise StackError if a service is down for good; cheap enough to call often."""
        ...

    def reset(self) -> None:
        """Stop everything and remove the data; logs stay."""
        ...

    def logs(self) -> dict[str, Path]:
        """The log file of each service that was started, by service name; still there after ``down``."""
        ...

    def facts(self) -> Mapping[str, object]:
        """What an archive should know of this stack (JSON values): versions, settings, restarts per service.

        Never raises, whatever has become of the stack.
        """
        ...

    def down(self) -> None:
        """Stop everything and remove what is temporary. Doing it twice does no harm."""
        ...

    def __enter__(self) -> Stack: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
