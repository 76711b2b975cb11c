"""Archived runs: the only writer under ``results/``, and the reader of everything that was ever written there.

A run's folder is ``results/<scenario>/<UTC yyyymmddThhmmssZ>-<short id>/``. Its ``run.json`` is written last, in one
step; a folder without a sound one is a run that broke off. Files of older format versions stay readable; a fixture in
tests/fixtures holds one of each.
"""

from __future__ import annotations

import csv
import io
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, TypeVar

import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from harness.errors import ArchiveError
from harness.measure.collect import LatencyTable
from harness.measure.events import EVENTS_SCHEMA, EventsFile
from harness.measure.ledger import Ledger
from harness.measure.stages import STAGES_SCHEMA
from harness.measure.summary import Summary

FORMAT_VERSION = 1
STAGES_CSV_ROWS = 100_000
"""More stages than this go to Parquet: as text they would be slow to write and to read."""

T = TypeVar("T")

_RUN_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{6,}")


class Verdict(BaseModel):
    """Whether one threshold held. ``value`` is None if the run does not carry the figure."""

    model_config = ConfigDict(frozen=True)

    name: str
    threshold: str
    value: float | None
    holds: bool


class RunRecord(BaseModel):
    """``run.json``: what was run, on what, and how it ended. Fields that a reader does not know are left alone.

    ``scenario`` is the resolved scenario as ``Scenario.model_dump(mode="json")`` gives it, ``treatment`` what differs
    between the runs of an experiment, ``environment`` versions and host, ``timings`` seconds per phase, ``verdicts``
    one entry per threshold, ``marks`` what a reader must know before comparing (``incomplete``, ``driver_late``, ...).
    """

    model_config = ConfigDict(frozen=True)

    format_version: int = FORMAT_VERSION
    run_id: str
    experiment_id: str
    scenario: dict[str, Any]
    treatment: dict[str, Any] = {}
    replication: int = 1
    started_at: AwareDatetime
    environment: dict[str, Any] = {}
    timings: dict[str, Any] = {}
    verdicts: list[Verdict] = []
    marks: list[str] = []


@dataclass(frozen=True)
class RunInfo:
    """A run's folder as a listing shows it. ``damage`` is empty for a sound run, else what is wrong with it."""

    path: Path
    scenario: str
    run_id: str
    record: RunRecord | None
    damage: str


@dataclass(frozen=True)
class ArchivedRun:
    """A sound run. ``summary`` and ``ledger`` are None where the run had none; the rest is read when asked for.

    Readers raise ArchiveError that names the file, and the line where there is one.
    """

    path: Path
    record: RunRecord
    summary: dict[str, Any] | None
    ledger: dict[str, Any] | None

    def orders(self) -> LatencyTable:
        return _read_latencies(self.path / "orders.csv")

    def pizzas(self) -> LatencyTable:
        return _read_latencies(self.path / "pizzas.csv")

    def load(self) -> list[dict[str, str]]:
        """The driver's rows as text by column; an empty text is no value."""
        return [dict(zip(header, row, strict=True)) for header, row in _rows(self.path / "load.csv")]

    def events(self) -> EventsFile:
        return _reading(self.path / "events.parquet", EventsFile)

    def stages(self) -> pa.Table:
        """In the STAGES_SCHEMA."""
        parquet = self.path / "stages.parquet"
        if parquet.exists():
            return _reading(parquet, pq.read_table).cast(STAGES_SCHEMA)
        return _reading(self.path / "stages.csv", _read_stages_csv)


class RunWriter:
    """Writes one run's folder, file by file in any order, and ``finish`` last. Each file appears whole or not at all.

    >>> with RunWriter(Path("results"), "quickstart") as writer:
    ...     writer.write_events(read_topics(...))
    ...     writer.finish(RunRecord(run_id=writer.run_id, ...))

    Leaving the block without ``finish`` leaves what was written, recognisable as a run that broke off.
    """

    def __init__(self, results_dir: Path, scenario: str, *, now: datetime | None = None) -> None:
        """``now`` must be aware; default: the present. Raises ArchiveError if no folder can be made."""
        self.started_at = (now or datetime.now(UTC)).astimezone(UTC)
        self.run_id = f"{self.started_at:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
        self.path = results_dir / scenario / self.run_id
        try:
            self.path.mkdir(parents=True)
            (self.path / "logs").mkdir()
        except OSError as error:
            raise ArchiveError(f"cannot make {self.path}: {error.strerror}") from error

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def write_orders(self, table: LatencyTable) -> None:
        self._write_csv("orders.csv", table.columns, table.rows)

    def write_pizzas(self, table: LatencyTable) -> None:
        self._write_csv("pizzas.csv", table.columns, table.rows)

    def write_load(self, rows: Sequence[Any], columns: Sequence[str] | None = None) -> None:
        """The driver's records: dataclass instances, a column per field; None becomes an empty text.

        ``columns`` names the columns where there may be no rows to tell them.
        """
        names = list(columns) if columns is not None else [field.name for field in fields(rows[0])] if rows else []
        self._write_csv("load.csv", names, ([getattr(row, name) for name in names] for row in rows))

    def write_events(self, batches: Iterable[pa.RecordBatch]) -> int:
        """Stream batches in the EVENTS_SCHEMA into events.parquet; returns the number of records."""
        records = 0

        def write(file: IO[bytes]) -> None:
            nonlocal records
            with pq.ParquetWriter(file, EVENTS_SCHEMA, compression="zstd") as writer:
                for batch in batches:
                    writer.write_batch(batch)
                    records += batch.num_rows

        self._write("events.parquet", write)
        return records

    @property
    def events_path(self) -> Path:
        """Where ``write_events`` put them."""
        return self.path / "events.parquet"

    def write_stages(self, table: pa.Table) -> None:
        """A table in the STAGES_SCHEMA."""
        if len(table) > STAGES_CSV_ROWS:
            self._write("stages.parquet", lambda file: pq.write_table(table, file, compression="zstd"))
            return
        plain = table.set_column(table.schema.get_field_index("machine"), "machine", table["machine"].cast(pa.string()))
        self._write("stages.csv", lambda file: pyarrow.csv.write_csv(plain, file))

    def write_summary(self, summary: Summary, ledger: Ledger) -> None:
        self._write_json("summary.json", summary.to_json() | {"ledger": ledger.to_json()})

    def write_logs(self, logs: Mapping[str, Path]) -> None:
        """Copy the services' log files; ones that do not exist are left out."""
        for service, source in logs.items():
            target = self.path / "logs" / f"{service}.log"
            try:
                if source.is_file():
                    shutil.copyfile(source, target)
            except OSError as error:
                raise ArchiveError(f"cannot write {target}: {error.strerror or error}") from error

    def finish(self, record: RunRecord) -> None:
        """Write ``run.json``: from now on the run is sound. Raises ArchiveError if it is another run's record."""
        if record.run_id != self.run_id:
            raise ArchiveError(f"the record of run {record.run_id} does not belong into {self.path}")
        self._write_json("run.json", record.model_dump(mode="json"))

    def _write_json(self, name: str, value: object) -> None:
        text = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)
        self._write(name, lambda file: file.write(text))

    def _write_csv(self, name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        def write(file: IO[bytes]) -> None:
            text = io.TextIOWrapper(file, encoding="utf-8", newline="")
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(rows)
            text.detach()

        self._write(name, write)

    def _write(self, name: str, write: Callable[[IO[bytes]], object]) -> None:
        """On disk first, then under its name: a power cut leaves no file that is there and empty."""
        partial = self.path / f".{name}.partial"
        try:
            with partial.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.path / name)
        except OSError as error:
            raise ArchiveError(f"cannot write {self.path / name}: {error.strerror or error}") from error
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)


def list_runs(results_dir: Path) -> list[RunInfo]:
    """All runs, the oldest first, damaged ones among them. Other files and folders are not looked at."""
    if not results_dir.is_dir():
        return []
    folders = [
        run
        for scenario in results_dir.iterdir()
        if scenario.is_dir()
        for run in scenario.iterdir()
        if run.is_dir() and _RUN_ID.fullmatch(run.name)
    ]
    return [_info(folder) for folder in sorted(folders, key=lambda folder: (folder.name, folder.parent.name))]


def find_run(results_dir: Path, name: str) -> Path:
    """The folder of the run that ``name`` means: its path, its id, any unique beginning of its id or of the part after
    the time stamp, or ``latest``: the youngest sound run.

    Raises ArchiveError if there is none, or several.
    """
    if name and Path(name).is_dir():
        return Path(name)
    runs = list_runs(results_dir)
    known = f"`harness list` shows the runs under {results_dir}."
    if name == "latest":
        sound = [run.path for run in runs if not run.damage]
        if not sound:
            raise ArchiveError(f"there is no archived run under {results_dir}", hint="`harness run FILE` makes one.")
        return sound[-1]
    short = {run.path: (run.run_id, run.run_id.split("-", 1)[1]) for run in runs}
    exact = [path for path, names in short.items() if name in names]
    found = exact or [path for path, names in short.items() if name and any(one.startswith(name) for one in names)]
    if len(found) > 1:
        raise ArchiveError(f"{name} can mean {', '.join(path.name for path in found)}", hint="Give more of the id.")
    if not found:
        raise ArchiveError(f"there is no run {name}", hint=known)
    return found[0]


def read_run(path: Path) -> ArchivedRun:
    """Open an archived run. Raises ArchiveError, naming the file, if it is damaged or of a newer format."""
    record = _read_record(path)
    summary = _read_json(path / "summary.json") if (path / "summary.json").exists() else None
    ledger = summary.pop("ledger", None) if summary else None
    _check_summary(path / "summary.json", summary, ledger)
    return ArchivedRun(path, record, summary, ledger)


def _check_summary(file: Path, summary: dict[str, Any] | None, ledger: object) -> None:
    """Raise ArchiveError unless the parts are there that every reader uses."""
    if summary is None:
        return
    parts = {"values": dict, "samples": dict, "details": dict, "notes": list}
    damaged = [name for name, kind in parts.items() if not isinstance(summary.get(name), kind)]
    if ledger is not None and not isinstance(ledger, dict):
        damaged.append("ledger")
    values = summary.get("values")
    if isinstance(values, dict) and not all(value is None or type(value) in (int, float) for value in values.values()):
        damaged.append("values")
    if damaged:
        raise ArchiveError(f"{file}: damaged: {', '.join(damaged)}")


def _info(folder: Path) -> RunInfo:
    record, damage = None, ""
    try:
        record = _read_record(folder)
    except ArchiveError as error:
        damage = str(error)
    return RunInfo(folder, folder.parent.name, folder.name, record, damage)


def _read_record(folder: Path) -> RunRecord:
    if not folder.is_dir():
        raise ArchiveError(f"{folder} is no folder")
    file = folder / "run.json"
    if not file.exists():
        raise ArchiveError(
            f"{folder} has no run.json: the run broke off before its end", hint="Its other files are whole; see there."
        )
    content = _read_json(file)
    version = content.get("format_version")
    if type(version) is not int or version < 1:
        raise ArchiveError(f"{file}: format_version is {version!r}, not a whole number from 1")
    if version > FORMAT_VERSION:
        raise ArchiveError(
            f"{file}: format version {version} is newer than this harness, which reads up to {FORMAT_VERSION}",
            hint="Read it with the version of the harness that wrote it, or a later one.",
        )
    try:
        return RunRecord.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ArchiveError(f"{file}: {place}: {first['msg']}") from None


def _read_json(file: Path) -> dict[str, Any]:
    content = _reading(file, Path.read_bytes)
    try:
        parsed = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise ArchiveError(f"{file}, line {error.lineno}: {error.msg}") from None
    if not isinstance(parsed, dict):
        raise ArchiveError(f"{file}, line 1: not a JSON object")
    return parsed


def _reading(file: Path, read: Callable[[Path], T]) -> T:
    try:
        return read(file)
    except FileNotFoundError:
        raise ArchiveError(
            f"{file} does not exist", hint="The run may have broken off before it was written."
        ) from None
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise ArchiveError(f"{file} cannot be read: {error}") from error


def _rows(file: Path) -> Iterator[tuple[list[str], list[str]]]:
    """(header, row) for every row of a CSV file; raises ArchiveError with the line of a row that does not fit."""
    text = _reading(file, lambda path: path.read_text("utf-8"))
    reader = csv.reader(text.splitlines(keepends=True), strict=True)
    try:
        header = next(reader, None)
        if header is None:
            raise ArchiveError(f"{file}, line 1: there is no header")
        for row in reader:
            if len(row) != len(header):
                raise ArchiveError(f"{file}, line {reader.line_num}: {len(row)} values for {len(header)} columns")
            yield header, row
    except csv.Error as error:
        raise ArchiveError(f"{file}, line {reader.line_num}: {error}") from None


def _read_latencies(file: Path) -> LatencyTable:
    """Every value of the latency tables is a whole number or null."""
    header = _reading(file, lambda path: path.read_text("utf-8")).partition("\n")[0].split(",")
    rows = []
    for line, (_, row) in enumerate(_rows(file), 2):
        try:
            rows.append(tuple(None if text == "" else int(text) for text in row))
        except ValueError as error:
            raise ArchiveError(f"{file}, line {line}: {error}") from None
    return LatencyTable(tuple(header), tuple(rows))


def _read_stages_csv(file: Path) -> pa.Table:
    types = {field.name: pa.string() if field.name == "machine" else field.type for field in STAGES_SCHEMA}
    table = pyarrow.csv.read_csv(file, convert_options=pyarrow.csv.ConvertOptions(column_types=types))
    if table.column_names != STAGES_SCHEMA.names:
        raise ArchiveError(f"{file}, line 1: the columns are {table.column_names}, not {STAGES_SCHEMA.names}")
    machine = table.schema.get_field_index("machine")
    return table.set_column(machine, "machine", table["machine"].dictionary_encode()).cast(STAGES_SCHEMA)
