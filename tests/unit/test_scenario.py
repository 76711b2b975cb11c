"""Scenario files: what they resolve to, and what is said about wrong ones."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from harness.errors import ScenarioError
from harness.line import MACHINE_TOPICS, MACHINES, ROOT
from harness.menu import load_menu
from harness.scenario import (
    SUMMARY_NAMES,
    BurstPhase,
    ConstantPhase,
    Drain,
    DriverSettings,
    LineSettings,
    Load,
    MachineSettings,
    OrderSpec,
    Scenario,
    Threshold,
    Warmup,
    load_scenario,
)

SMALL = """
[[load.phases]]
arrivals = "burst"
orders = [{ size = 3 }]
"""


Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def _write(text: str) -> Path:
        path = tmp_path / "some-name.toml"
        path.write_text(text, "utf-8")
        return path

    return _write


def errors_of(path: Path, *overrides: str) -> list[str]:
    """The lines of the error message, without the first one that only counts them."""
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path, overrides)
    assert caught.value.exit_code == 2
    assert caught.value.hint
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


def error_of(path: Path, *overrides: str) -> str:
    (line,) = errors_of(path, *overrides)
    return line


def test_a_small_file_gets_the_original_line(write: Write) -> None:
    scenario = load_scenario(write(SMALL))
    assert scenario.name == "some-name"
    assert tuple(scenario.line.machines) == MACHINE_TOPICS
    assert [scenario.line.work_us(m.topic, 5) for m in MACHINES] == [round(m.default_work_ms * 1000) for m in MACHINES]
    assert {scenario.line.capacity_of(topic) for topic in MACHINE_TOPICS} == {1}
    assert scenario.warmup.orders == ()
    assert scenario.thresholds == {}


def test_a_machine_keeps_the_defaults_it_does_not_set(write: Write) -> None:
    path = write(
        """
[line]
time_scale = 0.1
capacity = 4
[line.machines.oven-machine]
work_ms_per_topping = 50
[line.machines.dough-shaper]
capacity = 2
command = ["./shaper", "--fast"]
"""
        + SMALL
    )
    line = load_scenario(path).line
    assert line.work_us("oven-machine", 3) == 115_000
    assert (line.capacity_of("oven-machine"), line.capacity_of("dough-shaper")) == (4, 2)
    assert line.machines["dough-shaper"].command == ("./shaper", "--fast")
    assert line.machines["dough-shaper"].work_ms == 500


def test_no_work_at_all_is_a_valid_line(write: Write) -> None:
    line = load_scenario(write(SMALL), ["line.time_scale=0"]).line
    assert line.work_us("oven-machine", 9) == 0


def test_the_archived_form_reads_back_as_the_same_scenario() -> None:
    for path in sorted((ROOT / "scenarios").glob("*.toml")):
        scenario = load_scenario(path)
        assert Scenario.model_validate(json.loads(json.dumps(scenario.model_dump(mode="json")))) == scenario


def test_an_archived_scenario_may_name_a_recipe_that_left_the_menu() -> None:
    dumped = {"name": "old", "load": {"phases": [{"arrivals": "burst", "orders": [{"size": 1, "recipe": "gone"}]}]}}
    assert Scenario.model_validate(dumped).load.phases[0].orders[0].recipe == "gone"


def test_a_scenario_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        LineSettings().time_scale = 2.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[line]\ntme_scale = 1", "line.tme_scale: unknown key; the closest known one is line.time_scale"),
        ("[lien]\ntime_scale = 1", "lien: unknown key; the closest known one is line"),
        (
            "[line.machines.ovn-machine]\nwork_ms = 1",
            "line.machines.ovn-machine: unknown key; the closest known one is line.machines.oven-machine",
        ),
        (
            "[line.machines.oven-machine]\nwork = 1",
            "line.machines.oven-machine.work: unknown key; the closest known one is line.machines.oven-machine.work_ms",
        ),
        ("[warmup]\norder = []", "warmup.order: unknown key; the closest known one is warmup.orders"),
        (
            "[warmup]\norders = [{ size = 1, recipie = 'salami' }]",
            "warmup.orders.0.recipie: unknown key; the closest known one is warmup.orders.0.recipe",
        ),
        ("[driver]\ntimeout_s = 1", "driver.timeout_s: unknown key; the closest known one is driver.request_timeout_s"),
        ("[drain]\ntimeout_ms = 1", "drain.timeout_ms: unknown key; the closest known one is drain.timeout_s"),
        (
            "[thresholds]\nlost_pizza = '<= 0'",
            "thresholds.lost_pizza: unknown key; the closest known one is thresholds.lost_pizzas",
        ),
    ],
)
def test_an_unknown_key_is_named_with_its_path_and_the_closest_known_one(
    write: Write, text: str, expected: str
) -> None:
    line = error_of(write(text + SMALL))
    assert line.split(" (")[0] == expected


def test_an_unknown_key_of_a_phase_names_the_closest_of_that_kind_of_phase(write: Write) -> None:
    path = write("[[load.phases]]\narrivals = 'constant'\nrate_per_s = 1\nrate_per_m = 1\norders = [{ size = 1 }]")
    assert error_of(path).startswith(
        "load.phases.0.rate_per_m: unknown key; the closest known one is load.phases.0.rate_per_s"
    )


def test_a_key_of_another_kind_of_phase_says_where_it_belongs(write: Write) -> None:
    line = error_of(write(SMALL), "load.phases.0.rate_per_s=2")
    assert line == 'load.phases.0.rate_per_s: goes with arrivals = "constant" only; remove it or change arrivals'


@pytest.mark.parametrize(
    ("override", "path", "said"),
    [
        ("line.time_scale=-1", "line.time_scale", "greater than or equal to 0"),
        ("line.time_scale=inf", "line.time_scale", "finite"),
        ("line.time_scale=true", "line.time_scale", "number"),
        ('line.time_scale="0.1"', "line.time_scale", "number"),
        ("line.capacity=0", "line.capacity", "greater than or equal to 1"),
        ("line.capacity=1001", "line.capacity", "1000"),
        ("line.capacity=1.5", "line.capacity", "integer"),
        ("line.machines.oven-machine=3", "line.machines.oven-machine", "table"),
        ("line.machines=3", "line.machines", "table"),
        ("line.machines.oven-machine.command=[]", "line.machines.oven-machine.command", "empty"),
        ("line.machines.oven-machine.command=run", "line.machines.oven-machine.command", "list"),
        ("load.phases.0.orders.0.size=0", "load.phases.0.orders.0.size", "greater than or equal to 1"),
        ("load.phases.0.orders.0.size=10001", "load.phases.0.orders.0.size", "10000"),
        ("load.phases.0.orders=[]", "load.phases.0.orders", "empty"),
        ("load.phases=[]", "load.phases", "empty"),
        ("load.phases={}", "load.phases", "write [[load.phases]]"),
        ("load={}", "load.phases", "missing"),
        ("load.phases.0.arrivals=bust", "load.phases.0.arrivals", "one of burst, constant"),
        ("load.phases.0.arrivals=constant", "load.phases.0.rate_per_s", "missing"),
        ("load.phases.0={orders=[{size=1}]}", "load.phases.0.arrivals", "missing"),
        ("load.phases.0.start_after_s=-1", "load.phases.0.start_after_s", "greater than or equal to 0"),
        ("driver.request_timeout_s=0", "driver.request_timeout_s", "greater than 0"),
        ("drain.timeout_s=nan", "drain.timeout_s", "must"),
        ("thresholds.lost_pizzas=0", "thresholds.lost_pizzas", '"<= 0"'),
        ("thresholds.lost_pizzas=<= 0 ms", "thresholds.lost_pizzas", '"<= 0"'),
        ("thresholds.lost_pizzas=!= 0", "thresholds.lost_pizzas", '"<= 0"'),
        ("name=Quick Start", "name", "a-z, 0-9"),
        ("name=../up", "name", "a-z, 0-9"),
        ("seed=-1", "seed", "greater than or equal to 0"),
        ("load.phases.0.orders.0.count=1000000000", "load.phases.0.orders.0.count", "1000000"),
    ],
)
def test_a_wrong_value_is_one_error_with_its_path_and_the_remedy(
    write: Write, override: str, path: str, said: str
) -> None:
    line = error_of(write(SMALL), override)
    assert line.startswith(f"{path}: ")
    assert said in line


def test_an_unknown_recipe_names_the_closest_one_on_the_menu(write: Write) -> None:
    line = error_of(write(SMALL), "load.phases.0.orders.0.recipe=margarita")
    assert line.startswith('load.phases.0.orders.0.recipe: no recipe is named "margarita"; the closest is margherita')


def test_all_errors_of_a_file_are_reported_at_once(write: Write) -> None:
    path = write("colour = 1\n[line]\ncapacity = 0\n[[load.phases]]\narrivals = 'burst'\norders = [{ size = 0 }, { }]")
    paths = {line.split(":")[0] for line in errors_of(path, "nonsense", "load.phases.4.x=1")}
    assert paths == {
        "colour",
        "line.capacity",
        "load.phases.0.orders.0.size",
        "load.phases.0.orders.1.size",
        "override 'nonsense'",
        "override 'load.phases.4.x=1'",
    }


def test_more_pizzas_than_ids_are_refused(write: Write) -> None:
    assert "2147483647" in error_of(write(SMALL), "load.phases.0.orders=[{size=10000, count=214749}]")


def test_broken_toml_is_refused_with_its_line(write: Write) -> None:
    with pytest.raises(ScenarioError, match="line 2") as caught:
        load_scenario(write("[line]\ntime_scale = = 1\n"))
    assert caught.value.hint


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"x = " + b"[" * 20_000, b"a = " + b"9" * 5_000])
def test_what_no_parser_can_take_is_refused_all_the_same(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.toml"
    path.write_bytes(content)
    with pytest.raises(ScenarioError, match="not valid TOML"):
        load_scenario(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="cannot be read"):
        load_scenario(tmp_path / "none.toml")
    with pytest.raises(ScenarioError, match="cannot be read"):
        load_scenario(tmp_path)


def test_overrides_reach_every_place(write: Write) -> None:
    scenario = load_scenario(
        write(SMALL),
        [
            "line.time_scale=0.5",
            "line.machines.oven-machine.work_ms = 500",
            "load.phases.0.orders.0.recipe=salami",
            "description=not in quotes",
            'warmup.orders=[{size=1, recipe="margherita"}]',
            "thresholds.lost_pizzas=<= 0",
            "name=other",
            "line.time_scale=0.25",
        ],
    )
    assert scenario.name == "other"
    assert scenario.description == "not in quotes"
    assert scenario.line.time_scale == 0.25
    assert scenario.line.work_us("oven-machine", 0) == 125_000
    assert scenario.load.phases[0].orders == (OrderSpec(size=3, recipe="salami"),)
    assert scenario.warmup.orders == (OrderSpec(size=1, recipe="margherita"),)
    assert scenario.thresholds["lost_pizzas"].holds(0)


@pytest.mark.parametrize(
    "override", ["", "=1", "line..x=1", "line.time_scale", "load.phases.1.rate_per_s=1", "load.phases.x=1", "name.x=1"]
)
def test_an_override_that_leads_nowhere_is_an_error(write: Write, override: str) -> None:
    assert errors_of(write("name = 'x'\n" + SMALL), override)[0].startswith(f"override {override!r}: ")


def test_an_override_cannot_smuggle_in_other_keys(write: Write) -> None:
    assert error_of(write(SMALL), "seed=1\nname = 'x'").startswith("seed: ")


@given(st.sampled_from(["<", "<=", ">", ">=", "=="]), st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6))
def test_a_threshold_compares_as_its_operator_says(op: str, limit: int, value: int) -> None:
    threshold = Threshold.model_validate(f"{op} {limit}")
    assert (
        threshold.holds(value)
        is {
            "<": value < limit,
            "<=": value <= limit,
            ">": value > limit,
            ">=": value >= limit,
            "==": value == limit,
        }[op]
    )
    assert Threshold.model_validate(str(threshold)) == threshold


@given(st.floats(-1e9, 1e9).map(lambda x: round(x, 6)))
def test_a_threshold_survives_being_written_out(limit: float) -> None:
    threshold = Threshold(op="<=", limit=limit)
    assert Threshold.model_validate(threshold.model_dump()) == threshold


@pytest.mark.parametrize("op", ["<", "<=", ">", ">=", "=="])
def test_a_figure_that_was_not_measured_passes_no_threshold(op: str) -> None:
    threshold = Threshold.model_validate(f"{op} 0")
    assert not threshold.holds(None)
    assert not threshold.holds(float("nan"))


def test_the_shipped_scenarios_are_valid_and_have_a_frozen_recipe_and_several_sizes() -> None:
    frozen = {recipe.name for recipe in load_menu() if recipe.frozen}
    for name in ("quickstart", "burst"):
        scenario = load_scenario(ROOT / "scenarios" / f"{name}.toml")
        specs = [spec for phase in scenario.load.phases for spec in phase.orders]
        assert len({spec.size for spec in specs}) >= 3
        assert {"lost_pizzas", "duplicate_pizzas", "unfinished_orders", "failed_orders"} <= set(scenario.thresholds)
        assert frozen & {spec.recipe for spec in (*specs, *scenario.warmup.orders)}


def test_the_reference_describes_every_key_figure_and_default_work_time() -> None:
    text = (ROOT / "docs" / "scenarios.md").read_text("utf-8")
    tables: list[type[BaseModel]] = [Scenario, LineSettings, MachineSettings, Warmup, Load, DriverSettings, Drain]
    models: list[type[BaseModel]] = [*tables, BurstPhase, ConstantPhase, OrderSpec]
    documented = set(re.findall(r"[a-z0-9_]+(?:-[a-z]+)*", text))
    for model in models:
        assert set(model.model_fields) <= documented
    assert set(SUMMARY_NAMES) <= documented
    for machine in MACHINES:
        assert f"| `{machine.topic}` | {machine.default_work_ms:g} |" in text
    defaults = DriverSettings(), Drain()
    for key, default in (item for settings in defaults for item in settings.model_dump().items()):
        assert f"| `{key}` | {default:g} |" in text


def test_the_example_of_the_reference_is_a_valid_scenario(write: Write) -> None:
    text = (ROOT / "docs" / "scenarios.md").read_text("utf-8")
    example = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)[0]
    assert tomllib.loads(example)["description"] == load_scenario(write(example)).description
