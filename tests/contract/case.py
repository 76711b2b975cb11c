"""Contract cases: read from machines/contract, spelled out per service, checked for mistakes of their own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "machines" / "contract"

Json = Any
"""A JSON value as ``json.loads`` gives it."""

_CASE_KEYS = {
    "name",
    "rules",
    "services",
    "except",
    "environment",
    "topics",
    "given",
    "steps",
    "refused",
    "interrupted",
    "once",
}
_STEP_KEYS = {
    "why",
    "send",
    "broken",
    "expect",
    "within_s",
    "in_any_order",
    "nothing_for_ms",
    "kill",
    "start",
    "http",
    "times",
    "eventually",
    "compare",
}
_RECORD_KEYS = {"topic", "key", "value", "text", "base64", "repeat", "tombstone", "pizza", "without", "headers", "as"}
_PADDING_KEYS = {"padded_to", "returns"}
_EXPECTED_KEYS = {"id", "key", "value", "has", "headers", "recovered", "of", "as"}
_REQUEST_KEYS = {"method", "path", "headers", "status", "statuses", "body", "has", "answer_headers"}


class CaseError(ValueError):
    """The case file is wrong, whatever the implementation does."""


@dataclass(frozen=True)
class Line:
    """machines/contract/line.json: the services, their topics and a sound pizza message."""

    next_topics: dict[str, str]
    """Per machine, the topic that a fresh pizza goes to next."""
    topics: tuple[str, ...]
    pizza: dict[str, Json]

    @property
    def machines(self) -> tuple[str, ...]:
        return tuple(self.next_topics)

    @classmethod
    def load(cls) -> Line:
        data = json.loads((FOLDER / "line.json").read_text())
        return cls(data["next_topics"], tuple(data["topics"]), data["pizza"])


@dataclass(frozen=True)
class Case:
    """One case for one service, with all placeholders filled in."""

    id: str
    name: str
    service: str
    environment: dict[str, str]
    topics: tuple[str, ...]
    """The topics that exist when the service starts."""
    given: list[Json]
    steps: list[Json]
    refused: list[Json]
    interrupted: list[Json]
    once: list[Json]


def load_cases(line: Line) -> list[Case]:
    """Every case for every service that it is for. Raises CaseError, naming the file."""
    cases = []
    for path in sorted((FOLDER / "cases").glob("*.json")):
        try:
            cases += read_case(path.stem, json.loads(path.read_text()), line)
        except (CaseError, KeyError, json.JSONDecodeError) as error:
            raise CaseError(f"{path.name}: {error}") from error
    return cases


def read_case(stem: str, data: dict[str, Json], line: Line) -> list[Case]:
    """One case file, once for each service that it is for. Raises CaseError when it is wrong."""
    _known(data, _CASE_KEYS, "a case")
    services: list[str] = []
    for service in data["services"]:
        services += line.machines if service == "$machines" else [service]
    services = [service for service in services if service not in data.get("except", ())]
    cases = []
    for service in services:
        filled = _fill(data, _placeholders(service, line))
        case = Case(
            id=f"{stem}[{service}]" if len(services) > 1 else stem,
            name=filled["name"],
            service=service,
            environment=filled.get("environment", {}),
            topics=tuple(topic for topic in line.topics if topic in filled.get("topics", line.topics)),
            given=filled.get("given", []),
            steps=filled.get("steps", []),
            refused=filled.get("refused", []),
            interrupted=filled.get("interrupted", []),
            once=filled.get("once", []),
        )
        _check(case, line)
        cases.append(case)
    return cases


def _placeholders(service: str, line: Line) -> dict[str, str]:
    if service not in line.next_topics:
        return {}
    following = line.next_topics[service]
    return {
        "$NEXT": following.upper().replace("-", "_"),
        "$next-done": f"{following}-done",
        "$next": following,
        "$input": service,
        "$done": f"{service}-done",
    }


def _fill(value: Json, placeholders: dict[str, str]) -> Json:
    if isinstance(value, dict):
        return {_fill(key, placeholders): _fill(item, placeholders) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, placeholders) for item in value]
    if isinstance(value, str):
        for name, text in placeholders.items():
            value = value.replace(name, text)
    return value


def _check(case: Case, line: Line) -> None:
    """Misspelt keys and topics in a case must not make it pass."""
    if sum(map(bool, (case.steps, case.refused, case.interrupted, case.once))) != 1:
        raise CaseError("a case has either steps, or refused, or interrupted, or once")
    for start in case.interrupted:
        _known(start, {"environment"}, "an interrupted start")
    records = list(case.given)
    for step in case.steps:
        _known(step, _STEP_KEYS, "a step")
        records += [*step.get("send", []), *step.get("broken", [])]
        for topic, expected in step.get("expect", {}).items():
            if topic not in line.topics:
                raise CaseError(f"no topic {topic!r}")
            for item in expected:
                if isinstance(item, dict):
                    _known(item, _EXPECTED_KEYS, "an expected record")
        for request in step.get("http", []):
            _known(request, _REQUEST_KEYS, "a request")
    for record in records:
        _known(record, _RECORD_KEYS | _PADDING_KEYS, "a record")
        if record["topic"] not in line.topics:
            raise CaseError(f"no topic {record['topic']!r}")


def _known(data: dict[str, Json], keys: set[str], what: str) -> None:
    unknown = set(data) - keys
    if unknown:
        raise CaseError(f"{what} has no {', '.join(sorted(unknown))}")
