"""The quickstart scenario as a user runs it, once, from the command line; then its archive."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from harness.archive import ArchivedRun, find_run, read_run
from harness.line import ALL_TOPICS, ROOT

HARNESS = Path(sys.executable).with_name("harness")
FREE_PORTS = ("--kafka-port", "0", "--orders-port", "0", "--ksqldb-port", "0")


@dataclass(frozen=True)
class Finished:
    code: int
    output: str
    results: Path
    run: ArchivedRun


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("quickstart")
    results = folder / "results"
    command = [str(HARNESS), "run", "scenarios/quickstart.toml", "--results", str(results), *FREE_PORTS]
    environment = {**os.environ, "TMPDIR": str(folder)}  # it takes a lock of its own there
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return Finished(done.returncode, done.stdout, results, read_run(find_run(results, "latest")))


def test_it_prints_the_summary_and_where_the_archive_lies(quickstart: Finished) -> None:
    for text in ("customer latency", "order latency", "pizza latency", "efficiency", str(quickstart.run.path)):
        assert text in quickstart.output
    assert "does not hold" not in quickstart.output
    assert quickstart.output.count("holds") == 4


def test_the_archive_is_whole(quickstart: Finished) -> None:
    names = {file.name for file in quickstart.run.path.iterdir()}
    assert names == {
        "run.json", "orders.csv", "pizzas.csv", "load.csv", "events.parquet", "stages.csv", "summary.json", "logs",
    }  # fmt: skip
    logs = {file.stem for file in (quickstart.run.path / "logs").iterdir()}
    assert len(logs) == 13, "eleven services, the broker and the ksqlDB engine"
    record = quickstart.run.record
    assert record.marks == [] or record.marks == ["driver_late"], "a busy machine may make the driver late"
    assert record.scenario["line"]["time_scale"] == 0.05
    assert record.environment["versions"]["kafka"].startswith("4.")
    assert {"up_s", "ksql_s", "warmup_s", "load_s", "drain_s", "record_s", "collect_s", "stop_s"} <= set(record.timings)


def test_tables_topics_driver_and_ledger_tell_the_same(quickstart: Finished) -> None:
    run = quickstart.run
    assert run.ledger is not None
    assert run.summary is not None
    assert run.ledger["orders_accepted"] == run.ledger["orders_done"] == 22
    assert run.ledger["pizzas_accepted"] == run.ledger["pizzas_done"] == 170
    orders, pizzas = run.orders(), run.pizzas()
    assert sorted(orders.column("ORDERID")) == list(range(1, 23))
    assert sorted(pizzas.column("PIZZAID")) == list(range(1, 171))
    for table in (orders, pizzas):
        spans = zip(
            table.column("STARTTIMESTAMP"), table.column("ENDTIMESTAMP"), table.column("LATENCYMS"), strict=True
        )
        assert all(end - start == latency > 0 for start, end, latency in spans)
    load = run.load()
    assert {row["order_id"] for row in load} == {str(number) for number in range(1, 23)}
    assert [row["phase"] for row in load].count("load") == 20
    records = pq.read_table(run.path / "events.parquet", columns=["topic"])["topic"].to_pylist()
    assert set(records) == set(ALL_TOPICS) - {"dead-letter"}
    assert records.count("pizza-done") == 170
    assert records.count("order-processing") == records.count("order-done") == 22


def test_frozen_pizzas_pass_nine_machines_and_fresh_ones_eight(quickstart: Finished) -> None:
    with (quickstart.run.path / "stages.csv").open(newline="") as file:
        stages = list(csv.DictReader(file))
    visits: dict[str, set[str]] = {}
    for stage in stages:
        visits.setdefault(stage["pizza_id"], set()).add(stage["machine"])
    assert sorted({len(machines) for machines in visits.values()}) == [8, 9]
    assert all(("freezer-machine" in machines) == (len(machines) == 9) for machines in visits.values())
    work_us = {"oven-machine": 50_000, "dough-shaper": 25_000}
    for stage in stages:
        if stage["machine"] in work_us:
            assert int(stage["finished_us"]) - int(stage["started_us"]) >= work_us[stage["machine"]]


def test_no_figure_is_better_than_the_line_model_allows(quickstart: Finished) -> None:
    assert quickstart.run.summary is not None
    values = quickstart.run.summary["values"]
    assert 0.3 < values["line_efficiency"] <= 1.0
    assert values["customer_latency_max_ms"] >= values["order_latency_max_ms"]
    assert values["order_latency_p99_ms"] is None, "twenty orders carry no p99"


def test_list_and_show_find_the_run(quickstart: Finished) -> None:
    for arguments in (["list"], ["show", "latest"], ["show", quickstart.run.record.run_id]):
        command = [str(HARNESS), *arguments, "--results", str(quickstart.results)]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, cwd=ROOT)
        assert quickstart.run.record.run_id in shown.stdout


def test_the_run_json_is_plain_json(quickstart: Finished) -> None:
    content = json.loads((quickstart.run.path / "run.json").read_text())
    assert content["format_version"] == 1
    assert content["environment"]["stack"]["name"] == "local"
