"""Refusals, with ksqlDB's error codes."""

from __future__ import annotations

from typing import Any

BAD_REQUEST = 40000
BAD_STATEMENT = 40001
QUERY_ENDPOINT = 40002
NOT_FOUND = 40400
NOT_ACCEPTABLE = 40600
SERVER_ERROR = 50000


class Refusal(Exception):
    """The engine will not do what was asked. ``statement`` is set when a statement was the reason."""

    def __init__(self, message: str, *, code: int = BAD_STATEMENT, statement: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.statement = statement

    @property
    def http_status(self) -> int:
        return self.code // 100

    def body(self) -> dict[str, Any]:
        """ksqlDB's JSON for this error."""
        if self.statement is not None:
            return {
                "@type": "statement_error",
                "error_code": self.code,
                "message": str(self),
                "statementText": self.statement,
                "entities": [],
            }
        return {"@type": "generic_error", "error_code": self.code, "message": str(self)}


def unsupported(what: str) -> Refusal:
    """ksqlDB may know this; the embedded engine does not, and does not guess."""
    return Refusal(f"The embedded engine does not support {what}.")
