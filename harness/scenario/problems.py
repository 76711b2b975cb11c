"""Validation errors in the words of the scenario file: the dotted path, what is wrong, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from harness.scenario.model import Phase, PhaseBase, Scenario


def describe(error: ValidationError) -> list[str]:
    """One line for each thing that is wrong in the file."""
    return [
        _problem(detail)
        for detail in error.errors(include_url=False)
        # A list whose entries are all wrong counts as too short as well: the entries are what to mend.
        if not (detail["type"] == "too_short" and detail["input"])
    ]


def _problem(detail: ErrorDetails) -> str:
    """One validation error as ``path: what is wrong; what to do``."""
    kind, loc, given = detail["type"], list(detail["loc"]), detail["input"]
    known = detail.get("ctx", {}).get("known", ())
    if loc and loc[-1] == "[key]":
        loc.pop()
    path, table = _place(loc)
    if kind in ("extra_forbidden", "unknown_key"):
        known = known or table
        kinds = [tag for tag, phase in _variants(Phase) if loc[-1] in phase.model_fields]
        if kinds and path.startswith("load.phases."):
            return f'{path}: goes with arrivals = "{kinds[0]}" only; remove it or change arrivals'
        closest = ".".join([*path.split(".")[:-1], _closest(loc[-1], known)])
        return f"{path}: unknown key; the closest known one is {closest}{_among(known)}"
    if kind == "unknown_name":
        return f'{path}: no recipe is named "{given}"; the closest is {_closest(given, known)}{_among(known)}'
    if kind == "missing":
        return f"{path}: missing; add it"
    if kind == "union_tag_not_found":
        return f'{path}.arrivals: missing; add arrivals = "burst" or arrivals = "constant"'
    if kind == "union_tag_invalid":
        tags = [tag for tag, _ in _variants(Phase)]
        return f"{path}.arrivals: is {given.get('arrivals')!r}; use one of {', '.join(tags)}"
    if kind in ("tuple_type", "list_type"):
        tables = f": write [[{path}]]" if path == "load.phases" else " in [ ]"
        return f"{path}: must be a list{tables}"
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return f"{path}: must be a table of keys, but is {given!r}"
    if kind == "too_short":
        return f"{path}: is empty; add at least one entry"
    if path == "name" and kind == "string_pattern_mismatch":
        return f'{path}: {given!r} is not made of a-z, 0-9 and -; set name = "..." in the file'
    if kind in ("threshold", "too_much"):
        return f"{path}: {detail['msg']}" + (f"; is {given!r}" if kind == "threshold" else "")
    return f"{path}: {detail['msg'].replace('Input should', 'must')}, but is {given!r}; change it"


def _closest(key: object, known: Sequence[str]) -> str:
    return difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)[0]


def _among(known: Sequence[str]) -> str:
    """The whole choice, where it is short enough to read."""
    return f" ({', '.join(known)})" if len(known) <= 9 else ""


def _place(loc: Sequence[int | str]) -> tuple[str, tuple[str, ...]]:
    """The dotted path of an error, and the keys that the table around it knows.

    A step into a tagged union appears in ``loc`` as the tag, which is no part of the file's path.
    """
    node: Any = Scenario
    path: list[str] = []
    table: tuple[str, ...] = ()
    for part in loc:
        variants = dict(_variants(node))
        if part in variants and part not in table:
            node = variants[str(part)]
            continue
        path.append(str(part))
        node = get_args(node)[0] if get_origin(node) is Annotated else node
        if isinstance(node, type) and issubclass(node, BaseModel):
            table = tuple(node.model_fields)
            field = node.model_fields.get(str(part))
            node = field.annotation if field else None
        else:
            arguments = get_args(node)
            node = arguments[-1 if get_origin(node) is dict else 0] if arguments else None
    return ".".join(path) or "whole file", table


def _variants(node: Any) -> list[tuple[str, type[BaseModel]]]:
    """Tag and model of each member, if ``node`` is a union of phases told apart by ``arrivals``."""
    members = get_args(get_args(node)[0]) if get_origin(node) is Annotated else ()
    return [
        (get_args(member.model_fields["arrivals"].annotation)[0], member)
        for member in members
        if isinstance(member, type) and issubclass(member, PhaseBase)
    ]
