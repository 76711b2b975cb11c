"""The cases themselves: a slip in one must be an error, never a case that cannot fail."""

import json
from typing import Any

import pytest

from tests.contract.case import FOLDER, CaseError, Line, load_cases, read_case
from tests.contract.matching import compare, match, match_record
from tests.contract.records import Seen, Sent

LINE = Line.load()
STEP: dict[str, Any] = {"send": [{"topic": "$input", "value": {}}]}
CASE: dict[str, Any] = {"name": "a promise", "rules": [1], "services": ["oven-machine"], "steps": [STEP]}


def seen(value: bytes = b"{}", **headers: str) -> Seen:
    return Seen(
        "oven-machine-done", 3, b"7", value, {name.replace("_", "-"): text for name, text in headers.items()}, 1_000
    )


def test_every_machine_is_held_to_every_kind_of_case() -> None:
    served: dict[str, set[str]] = {}
    for case in load_cases(LINE):
        served.setdefault(case.service, set()).add(case.id.partition("[")[0])
    for machine in LINE.machines:
        last = machine == "packaging-machine"
        common = {f"{machine}-does", "broken-records", "refused-starts", "interrupted-starts"}
        assert common | ({"recovery-of-packaging"} if last else {"capacity", "recovery"}) <= served[machine]
    assert set(served) == {*LINE.machines, "order-processing", "kafka-initializer"}


def test_every_case_says_which_sections_of_the_protocol_it_holds() -> None:
    sections = (FOLDER.parent / "PROTOCOL.md").read_text().count("\n## ")
    for path in (FOLDER / "cases").glob("*.json"):
        data = json.loads(path.read_text())
        assert data["rules"], path.name
        assert all(1 <= rule <= sections for rule in data["rules"]), path.name


@pytest.mark.parametrize(
    "slip",
    [
        {"stesp": []},
        {"steps": []},
        {"steps": [{"sned": []}]},
        {"steps": [{"send": [{"topic": "oven", "value": {}}]}]},
        {"steps": [{"send": [{"topic": "$input", "vaule": {}}]}]},
        {"steps": [{"expect": {"packaging": [1]}}]},
        {"steps": [{"expect": {"$next": [{"pizzaId": 1}]}}]},
        {"steps": [{"http": [{"method": "GET", "path": "/", "state": 200}]}]},
        {"refused": [{"environment": {}, "names": []}]},
        {"steps": [], "interrupted": [{"enviroment": {}}]},
    ],
)
def test_a_misspelt_case_is_refused(slip: dict[str, Any]) -> None:
    assert read_case("slip", CASE, LINE)
    with pytest.raises(CaseError):
        read_case("slip", {**CASE, **slip}, LINE)


def test_placeholders_are_the_topics_of_the_service() -> None:
    data = {**CASE, "environment": {"CAPACITY_$NEXT": "2"}, "steps": [{"expect": {"$next": [1], "$next-done": []}}]}
    (case,) = read_case("filled", data, LINE)
    assert case.environment == {"CAPACITY_PACKAGING_MACHINE": "2"}
    assert list(case.steps[0]["expect"]) == ["packaging-machine", "packaging-machine-done"]


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        (1, True),
        (1, 1.0),
        (None, 0),
        (False, None),
        ("1", 1),
        ([1], [1, 2]),
        ([], None),
        ({"a": 1}, {}),
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"$": "text"}, " "),
        ({"$": "text"}, 5),
        ({"$": "recent-ms"}, 1731571200000),
    ],
)
def test_values_that_only_look_alike_do_not_match(expected: object, actual: object) -> None:
    with pytest.raises(AssertionError):
        match(expected, actual, "value")


def test_a_recovered_signal_is_not_a_fresh_one() -> None:
    fresh, recovered = (
        seen(b'{"pizzaId": 7}', machine="oven"),
        seen(b'{"pizzaId": 7}', machine="oven", recovered="true"),
    )
    match_record(7, fresh, {})
    match_record({"id": 7, "recovered": None}, recovered, {})
    with pytest.raises(AssertionError):
        match_record(7, recovered, {})
    with pytest.raises(AssertionError):
        match_record({"id": 7, "recovered": True}, fresh, {})


def test_comparisons_hold_or_fail_and_never_pass_over_a_wrong_term() -> None:
    records: dict[str, Seen | Sent] = {"a": seen(at_us="2500"), "b": Sent("oven-machine", 0, None, None, 2_000)}
    compare("a at-us >= b sent + 500", records)
    compare("a at-us in ms = a at-us in ms", records)
    with pytest.raises(AssertionError):
        compare("a at-us >= b sent + 501", records)
    with pytest.raises(AssertionError):
        compare("a started-us >= b sent", records)
    for wrong in ("a at-us", "a at-us => b sent", "a when >= b sent"):
        with pytest.raises(CaseError):
            compare(wrong, records)
