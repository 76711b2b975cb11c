"""The ``harness`` command. The only module that prints or exits.

Exit codes: 0 when all went well, those of ``harness.errors`` otherwise, 130 after Ctrl-C, 143 after SIGTERM
and 129 after SIGHUP, when what there was has been archived.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from harness.archive import find_run, list_runs, read_run
from harness.errors import HarnessError, ScenarioError
from harness.run import RESULTS_DIR, RunOptions, RunOutcome, run_scenario
from harness.scenario import load_scenario
from harness.show import archived_run, outcome_summary, runs_table, scenario_summary
from harness.show.progress import ConsoleWatcher
from harness.stacks import STACKS, Ports
from harness.stacks.signals import Terminated

WIDTH_WITHOUT_TERMINAL = 160

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Benchmarks the pizza line: runs scenarios on it and archives what it measured.",
)

ScenarioFile = Annotated[Path, typer.Argument(metavar="FILE", help="The scenario, a TOML file.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace a value of the file, such as line.time_scale=0.1."),
]
ResultsDir = Annotated[Path, typer.Option("--results", metavar="DIR", help="Where runs are archived.")]


@app.command()
def run(
    file: ScenarioFile,
    stack: Annotated[str, typer.Option(help=f"The system under test: {', '.join(STACKS)}.")] = "local",
    overrides: Overrides = None,
    results: ResultsDir = RESULTS_DIR,
    kafka_port: Annotated[int, typer.Option(help="0 takes a free port.", min=0, max=65535)] = Ports.kafka,
    orders_port: Annotated[int, typer.Option(help="Of the order API.", min=0, max=65535)] = Ports.orders,
    ksqldb_port: Annotated[int, typer.Option(help="Of ksqlDB's REST API.", min=0, max=65535)] = Ports.ksqldb,
) -> None:
    """Run a scenario on a fresh stack and archive what it measured."""
    if stack not in STACKS:
        raise ScenarioError(f"there is no stack {stack!r}", hint=f"Stacks: {', '.join(STACKS)}.")
    scenario = load_scenario(file, overrides or ())
    console = _console()
    console.print(scenario_summary(scenario))
    options = RunOptions(stack, results, Ports(kafka_port, orders_port, ksqldb_port))
    with _exit_code_of_signals():
        with ConsoleWatcher(console) as watcher:
            outcome = run_scenario(scenario, options, watcher)
        console.print(outcome_summary(outcome))
        _exit_as(outcome)


@app.command()
def validate(file: ScenarioFile, overrides: Overrides = None) -> None:
    """Check a scenario file without running anything."""
    _console().print(scenario_summary(load_scenario(file, overrides or ())))


@app.command(name="list")
def list_(results: ResultsDir = RESULTS_DIR) -> None:
    """List the archived runs."""
    _console().print(runs_table(list_runs(results), results))


@app.command()
def show(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, its id or a part of it, or latest.")],
    results: ResultsDir = RESULTS_DIR,
) -> None:
    """Show what an archived run measured."""
    _console().print(archived_run(read_run(find_run(results, run))))


def _console() -> Console:
    """As wide as the terminal; files and pipes get lines that are long enough for every table."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDTH_WITHOUT_TERMINAL)


def _exit_as(outcome: RunOutcome) -> None:
    """Raise what the run ended with, if it did not pass."""
    if outcome.failure is not None:
        raise outcome.failure


@contextmanager
def _exit_code_of_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the program with 128 and their number; typer would take them for Ctrl-C."""
    try:
        yield
    except Terminated as signal:
        raise typer.Exit(128 + signal.signal_number) from signal


def main() -> None:
    """The program: every error that the user can act on becomes its message, its hint and its exit code."""
    try:
        app(standalone_mode=True)
    except HarnessError as error:
        complaint = Console(stderr=True, highlight=False, soft_wrap=True)
        complaint.print(f"error: {error}", style="bold red", markup=False)
        if error.hint:
            complaint.print(error.hint, markup=False)
        sys.exit(error.exit_code)
