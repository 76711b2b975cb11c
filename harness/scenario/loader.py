"""From a TOML file and overrides to a validated scenario."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.errors import ScenarioError
from harness.menu import load_menu
from harness.scenario.model import Scenario
from harness.scenario.problems import describe


def load_scenario(path: Path, overrides: Sequence[str] = ()) -> Scenario:
    """Reads, overrides and validates a scenario file.

    An override is ``dotted.key=value``: the value in TOML syntax, a text may be bare, list items go by their
    number from 0 (``load.phases.0.rate_per_s=5``). Raises ScenarioError, listing everything that is wrong.
    """
    raw = _read(path)
    problems = [problem for override in overrides if (problem := _override(raw, override))]
    if "name" not in raw:
        raw["name"] = path.stem
    try:
        scenario = Scenario.model_validate(raw, context={"menu": [recipe.name for recipe in load_menu()]})
    except ValidationError as error:
        problems += describe(error)
    if problems:
        count = "1 error" if len(problems) == 1 else f"{len(problems)} errors"
        raise ScenarioError(
            "\n  ".join([f"{path}: {count}", *problems]),
            hint="Mend the file or the override; docs/scenarios.md describes every key. Nothing was started.",
        )
    return scenario


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ScenarioError(
            f"{path}: cannot be read: {error.strerror or error}",
            hint="Give the path of a scenario file; the shipped ones are in scenarios/.",
        ) from error
    except (ValueError, RecursionError) as error:
        raise ScenarioError(
            f"{path}: not valid TOML: {error}",
            hint="Mend the line that the message names; texts need quotes, tables look like [line].",
        ) from error


def _override(raw: dict[str, Any], override: str) -> str | None:
    """Puts one override into ``raw``; returns what is wrong with it, if anything is."""
    dotted, equals, text = override.partition("=")
    keys = [key.strip() for key in dotted.split(".")]
    if not equals or not all(keys):
        return f"override {override!r}: must look like line.time_scale=0.1"
    try:
        parsed = tomllib.loads(f"value = {text}")
        value = parsed["value"] if parsed.keys() == {"value"} else text
    except (ValueError, RecursionError):
        value = text.strip()
    node: Any = raw
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(node, dict):
            node[key] = value if last else node.get(key, {})
            node = node[key]
        elif isinstance(node, list) and key.isdecimal() and int(key) < len(node):
            if last:
                node[int(key)] = value
            node = node[int(key)]
        else:
            where = ".".join(keys[:depth])
            what = f"has items 0 to {len(node) - 1}" if isinstance(node, list) and node else "has no keys"
            return f"override {override!r}: {where} {what}; name an existing place"
    return None
