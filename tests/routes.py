"""Which machines a pizza visits, told apart from the product so that tests can judge it."""

from __future__ import annotations

from harness.line import MACHINE_TOPICS


def route(frozen: bool) -> tuple[str, ...]:
    """The machine topics that a pizza visits: nine if it is frozen, else eight."""
    return tuple(topic for topic in MACHINE_TOPICS if frozen or topic != "freezer-machine")
