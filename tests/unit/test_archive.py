"""Archived runs: everything written is read back as it was, and damage is named, never crashed on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from harness import archive
from harness.archive import ArchivedRun, RunRecord, RunWriter, Verdict, find_run, list_runs, read_run
from harness.errors import ArchiveError
from harness.line import ALL_TOPICS
from harness.measure.collect import LatencyTable
from harness.measure.events import EventsTable
from harness.measure.facts import read_facts
from harness.measure.ledger import build_ledger
from harness.measure.stages import STAGES_SCHEMA, read_stages
from harness.measure.summary import summarise
from harness.scenario.model import LineSettings
from tests.simulated_line import MENU, Faults, SimulatedOrder, simulate

FIXTURE = Path(__file__).parents[1] / "fixtures" / "results-v1"
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)

ORDERS = LatencyTable(
    ("ORDERID", "ORDERSIZE", "STARTTIMESTAMP", "ENDTIMESTAMP", "LATENCYMS"),
    ((1, 2, 1_763_000_000_000, 1_763_000_000_100, 100), (2, 3, 1_763_000_000_050, None, None)),
)
PIZZAS = LatencyTable(("PIZZAID", "ORDERID", "STARTTIMESTAMP", "ENDTIMESTAMP", "LATENCYMS"), ((1, 1, 5, 9, 4),))
LINE = LineSettings(time_scale=0.01)


@dataclass(frozen=True)
class Sent:
    index: int
    phase: str
    intended_us: int
    sent_us: int | None
    order_id: int | None
    outcome: str
    error: str


SENT = [
    Sent(0, "warmup", 10, 12, 1, "accepted", ""),
    Sent(1, "load", 20, None, None, "unknown", 'refused, "busy"\nfor good'),
]


def record(writer: RunWriter, **more: object) -> RunRecord:
    fields = {"run_id": writer.run_id, "experiment_id": "e1", "scenario": {"name": "quickstart"}} | more
    return RunRecord.model_validate({"started_at": writer.started_at} | fields)


def write_run(results: Path, *, now: datetime = NOON, scenario: str = "quickstart") -> Path:
    """A complete run of a simulated line that lost a pizza."""
    line = simulate([SimulatedOrder(2), SimulatedOrder(3)], line=LINE, faults=Faults(lost={4: "oven-machine"}))
    events = EventsTable(line.events)
    facts = read_facts(events)
    ledger = build_ledger(facts)
    with RunWriter(results, scenario, now=now) as writer:
        writer.write_orders(ORDERS)
        writer.write_pizzas(PIZZAS)
        writer.write_load(SENT)
        writer.write_events(line.events.to_batches())
        writer.write_stages(read_stages(events, facts))
        writer.write_summary(summarise(facts, ledger, None, SENT, LINE, MENU, planned=len(SENT)), ledger)
        writer.finish(
            record(
                writer,
                marks=["incomplete"],
                verdicts=[Verdict(name="lost_pizzas", threshold="<= 0", value=1, holds=False)],
            )
        )
    return writer.path


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("results"))


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Path:
    """A sound run to damage."""
    target = tmp_path / "quickstart" / written.name
    shutil.copytree(written, target)
    return target


def sound(path: Path) -> Iterator[None]:
    run = read_run(path)
    for read in (run.orders, run.pizzas, run.load, run.events, run.stages):
        read()
        yield


def test_everything_that_was_written_is_read_back(written: Path) -> None:
    run = read_run(written)

    assert run.record.marks == ["incomplete"]
    assert run.record.started_at == NOON
    assert run.record.replication == 1
    assert run.orders() == ORDERS
    assert run.pizzas() == PIZZAS
    assert run.load() == [
        {
            "index": "0",
            "phase": "warmup",
            "intended_us": "10",
            "sent_us": "12",
            "order_id": "1",
            "outcome": "accepted",
            "error": "",
        },
        {
            "index": "1",
            "phase": "load",
            "intended_us": "20",
            "sent_us": "",
            "order_id": "",
            "outcome": "unknown",
            "error": SENT[1].error,
        },
    ]
    assert run.summary is not None
    assert run.summary["values"]["lost_pizzas"] == 1
    assert run.ledger is not None
    assert run.ledger["lost"] == {"oven-machine": [[4, 4]]}


def test_events_and_stages_come_back_as_they_were(written: Path) -> None:
    line = simulate([SimulatedOrder(2), SimulatedOrder(3)], line=LINE, faults=Faults(lost={4: "oven-machine"}))
    run, in_memory = read_run(written), EventsTable(line.events)

    for topic in ALL_TOPICS:
        assert run.events().topic(topic).to_pylist() == in_memory.topic(topic).to_pylist()
    assert run.stages().schema == STAGES_SCHEMA
    assert run.stages().to_pylist() == read_stages(in_memory, read_facts(in_memory)).to_pylist()


def test_latency_tables_are_archived_with_their_own_column_names_and_empty_nulls(written: Path) -> None:
    lines = (written / "orders.csv").read_text().splitlines()

    assert lines[0] == "ORDERID,ORDERSIZE,STARTTIMESTAMP,ENDTIMESTAMP,LATENCYMS"
    assert lines[2] == "2,3,1763000000050,,"


def test_many_stages_go_to_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "STAGES_CSV_ROWS", 10)
    path = write_run(tmp_path)

    assert not (path / "stages.csv").exists()
    stages = read_run(path).stages()
    monkeypatch.undo()
    assert stages.schema == STAGES_SCHEMA
    assert stages.to_pylist() == read_run(write_run(tmp_path)).stages().to_pylist()


def test_a_load_without_orders_has_its_columns_all_the_same(tmp_path: Path) -> None:
    with RunWriter(tmp_path, "quickstart") as writer:
        writer.write_load([], columns=["index", "phase"])
        writer.finish(record(writer))

    assert (writer.path / "load.csv").read_text() == "index,phase\n"
    assert read_run(writer.path).load() == []


def test_logs_are_copied_by_service(tmp_path: Path) -> None:
    (tmp_path / "x.out").write_text("ready\n")
    with RunWriter(tmp_path / "results", "quickstart") as writer:
        writer.write_logs({"oven-machine": tmp_path / "x.out", "never-started": tmp_path / "nothing"})

    assert [(file.name, file.read_text()) for file in (writer.path / "logs").iterdir()] == [
        ("oven-machine.log", "ready\n")
    ]


def test_a_run_that_broke_off_is_listed_as_damaged_with_what_it_has(tmp_path: Path) -> None:
    def break_off() -> Iterator[pa.RecordBatch]:
        yield from simulate([SimulatedOrder(1)]).events.to_batches(max_chunksize=3)[:2]
        raise KeyboardInterrupt

    writer = RunWriter(tmp_path, "quickstart")
    writer.write_orders(ORDERS)
    with pytest.raises(KeyboardInterrupt):
        writer.write_events(break_off())

    (run,) = list_runs(tmp_path)
    assert run.record is None
    assert "broke off" in run.damage
    assert (writer.path / "orders.csv").exists()
    assert not (writer.path / "events.parquet").exists()
    with pytest.raises(ArchiveError, match="broke off"):
        read_run(writer.path)


def test_a_run_takes_no_other_runs_record(tmp_path: Path) -> None:
    one, other = RunWriter(tmp_path, "quickstart"), RunWriter(tmp_path, "quickstart")

    with pytest.raises(ArchiveError, match="does not belong"):
        one.finish(record(other))


def test_runs_are_listed_by_time_and_other_files_are_left_alone(tmp_path: Path) -> None:
    later = write_run(tmp_path, now=NOON.replace(hour=13))
    earlier = write_run(tmp_path, now=NOON, scenario="burst")
    (tmp_path / "README.md").write_text("hello")
    (tmp_path / "burst" / "notes").mkdir()

    assert [run.path for run in list_runs(tmp_path)] == [earlier, later]
    assert [run.scenario for run in list_runs(tmp_path)] == ["burst", "quickstart"]
    assert list_runs(tmp_path / "nowhere") == []


def test_a_run_is_found_by_path_id_unique_beginning_and_as_the_latest(tmp_path: Path) -> None:
    first, second = write_run(tmp_path, now=NOON), write_run(tmp_path, now=NOON.replace(hour=13))
    RunWriter(tmp_path, "quickstart", now=NOON.replace(hour=14))  # broke off: not the latest run
    token = first.name.split("-")[1]

    for name in (str(first), first.name, first.name[:13], token):
        assert find_run(tmp_path, name) == first
    assert find_run(tmp_path, "latest") == second


@pytest.mark.parametrize(
    ("name", "message"), [("2026", "can mean .*, "), ("nothing", "no run nothing"), ("\t", "no run")]
)
def test_a_name_that_means_no_single_run_is_an_error(tmp_path: Path, name: str, message: str) -> None:
    write_run(tmp_path, now=NOON)
    write_run(tmp_path, now=NOON.replace(hour=13))

    with pytest.raises(ArchiveError, match=message):
        find_run(tmp_path, name)


def test_latest_needs_a_sound_run(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="no archived run"):
        find_run(tmp_path, "latest")


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("run.json", b'{\n"run_id": "x",\n}', r"run\.json, line 2"),
        ("run.json", b"[]", r"run\.json, line 1: not a JSON object"),
        ("run.json", b"", r"run\.json, line 1"),
        ("run.json", b'{"format_version": 1}', r"run\.json: run_id: Field required"),
        ("run.json", b'{"format_version": 2}', r"run\.json: format version 2 is newer than this harness"),
        ("run.json", b'{"format_version": "1"}', r"run\.json: format_version is '1'"),
        ("summary.json", b"{", r"summary\.json, line 1"),
        ("orders.csv", b"ORDERID,X\n1,2\n3\n", r"orders\.csv, line 3: 1 values for 2 columns"),
        ("orders.csv", b"ORDERID\n1\n2\nthree\n", r"orders\.csv, line 4: .*'three'"),
        ("orders.csv", b"", r"orders\.csv, line 1: there is no header"),
        ("pizzas.csv", b'PIZZAID\n"1\n', r"pizzas\.csv, line 2: "),
        ("pizzas.csv", b"PIZZAID\n\xff\n", r"pizzas\.csv cannot be read"),
        ("load.csv", b"index,phase\n1,load,extra\n", r"load\.csv, line 2: 3 values"),
        ("stages.csv", b"pizza_id,machine\n1,oven\n", r"stages\.csv, line 1: the columns are"),
        ("stages.csv", b"pizza_id\nx\n", r"stages\.csv cannot be read"),
        ("events.parquet", b"PAR1 no", r"events\.parquet cannot be read"),
    ],
)
def test_damage_is_an_error_that_names_the_file_and_the_line(
    copy: Path, file: str, damage: bytes, message: str
) -> None:
    (copy / file).write_bytes(damage)

    with pytest.raises(ArchiveError, match=message):
        for _ in sound(copy):
            pass


@pytest.mark.parametrize("file", ["orders.csv", "pizzas.csv", "load.csv", "stages.csv", "events.parquet"])
def test_a_missing_file_is_an_error_that_names_it(copy: Path, file: str) -> None:
    (copy / file).unlink()

    with pytest.raises(ArchiveError, match=f"{file} does not exist"):
        for _ in sound(copy):
            pass


def test_a_folder_that_is_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="is no folder"):
        read_run(tmp_path / "nothing")


def test_fields_of_a_later_harness_with_the_same_format_are_left_alone(copy: Path) -> None:
    text = (copy / "run.json").read_text()
    (copy / "run.json").write_text(text.replace("{", '{"weather": "fine",', 1))

    assert read_run(copy).record.marks == ["incomplete"]


def test_format_version_1_stays_readable() -> None:
    run: ArchivedRun = read_run(find_run(FIXTURE, "latest"))

    assert run.record.format_version == 1
    assert run.record.scenario["name"] == "quickstart"
    assert run.orders().column("ORDERID") == [1, 2]
    assert run.load()[0]["phase"] == "warmup"
    assert run.summary is not None
    assert run.summary["values"]["lost_pizzas"] == 1
    facts = read_facts(run.events())
    assert build_ledger(facts).lost == {"oven-machine": ((4, 4),)}
    assert run.stages().to_pylist() == read_stages(run.events(), facts).to_pylist()


@pytest.mark.parametrize(
    "summary",
    [b'{"values": {}}', b'{"values": {"makespan_s": "x"}, "samples": {}, "details": {}, "notes": []}',
     b'{"values": {}, "samples": {}, "details": {}, "notes": [], "ledger": 7}'],
)  # fmt: skip
def test_a_summary_that_is_json_and_nothing_else_is_damage(tmp_path: Path, summary: bytes) -> None:
    path = write_run(tmp_path)
    (path / "summary.json").write_bytes(summary)

    with pytest.raises(ArchiveError, match=r"summary\.json"):
        read_run(path)


def test_a_disk_that_refuses_is_an_error_that_names_the_file_and_leaves_no_half_of_it(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path, "quickstart")

    class FullDisk:
        def __iter__(self) -> Iterator[pa.RecordBatch]:
            raise OSError(28, "No space left on device")

    with pytest.raises(ArchiveError, match=r"events\.parquet: No space left"):
        writer.write_events(FullDisk())
    assert [file.name for file in writer.path.iterdir()] == ["logs"]
