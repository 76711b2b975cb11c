import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import StackError
from harness.stacks import watchdog
from harness.stacks.signals import Terminated, signals_as_exceptions
from harness.stacks.supervisor import RestartPolicy, Service, Supervisor
from harness.waiting import wait_until
from tests.unit.stacks.fakes import (
    IGNORES_SIGTERM,
    READY_THEN_SLEEP,
    STARTS_A_CHILD,
    alive,
    child_pid,
    python_service,
)


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    with Supervisor(grace_s=5.0) as made:
        yield made


def start_ready(supervisor: Supervisor, *services: Service) -> list[int]:
    for service in services:
        supervisor.start(service)
    supervisor.wait_ready([service.name for service in services], timeout_s=20)
    return [supervisor.pid(service.name) for service in services]


def test_a_failed_start_names_the_service_its_exit_code_and_its_last_lines(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    broken = python_service(tmp_path, "oven", 'print("no gas"); raise SystemExit(7)')
    with pytest.raises(StackError, match=r"(?s)oven ended with exit code 7 before it was ready.*\| no gas") as caught:
        start_ready(supervisor, broken)
    assert caught.value.hint.endswith(": logs/oven.log")  # as archived; the stack's own folder is temporary


def test_a_failed_start_stops_everything_that_had_been_started(supervisor: Supervisor, tmp_path: Path) -> None:
    (healthy,) = start_ready(supervisor, python_service(tmp_path, "dough", READY_THEN_SLEEP))
    supervisor.start(python_service(tmp_path, "oven", "raise SystemExit(7)"))
    with pytest.raises(StackError):
        supervisor.wait_ready(["dough", "oven"], timeout_s=20)
    assert not alive(healthy)
    assert supervisor.running() == ()


def test_a_service_that_is_never_ready_fails_the_start_and_is_stopped(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(python_service(tmp_path, "oven", 'import time; print("warming", flush=True); time.sleep(600)'))
    pid = supervisor.pid("oven")
    wait_until(lambda: "warming" in (tmp_path / "oven.log").read_text(), 20, "first log line")
    with pytest.raises(StackError, match=r"(?s)oven was not ready within 0.1 s.*warming"):
        supervisor.wait_ready(["oven"], timeout_s=0.1)
    assert not alive(pid)


def test_a_program_that_does_not_exist_fails_the_start(supervisor: Supervisor, tmp_path: Path) -> None:
    missing = Service("oven", (str(tmp_path / "no-such-oven"),), tmp_path / "oven.log", cwd=tmp_path)
    with pytest.raises(StackError, match=r"(?s)oven ended with exit code 127.*no-such-oven"):
        start_ready(supervisor, missing)


def test_output_and_errors_go_to_one_log_and_the_environment_is_passed_on(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    program = (
        'import os, sys, time; print(os.environ["OVEN"], flush=True); '
        'print("smoke", file=sys.stderr, flush=True); print("ready", flush=True); time.sleep(600)'
    )
    start_ready(supervisor, python_service(tmp_path, "oven", program, env={"OVEN": "hot"}))
    assert (tmp_path / "oven.log").read_text().split() == ["hot", "smoke", "ready"]


def test_a_killed_service_is_restarted_at_once_and_counted(supervisor: Supervisor, tmp_path: Path) -> None:
    (before,) = start_ready(supervisor, python_service(tmp_path, "oven", READY_THEN_SLEEP))
    assert supervisor.kill("oven") == before
    supervisor.wait_ready(["oven"], timeout_s=20)
    assert supervisor.pid("oven") != before
    assert supervisor.restarts == {"oven": 1}
    supervisor.check()


def test_readiness_after_a_restart_is_that_of_the_new_process(supervisor: Supervisor, tmp_path: Path) -> None:
    start_ready(supervisor, python_service(tmp_path, "oven", READY_THEN_SLEEP))
    supervisor.kill("oven")
    supervisor.wait_ready(["oven"], timeout_s=20)
    assert (tmp_path / "oven.log").read_text().split() == ["ready", "ready"]


def test_a_service_killed_without_restart_stays_down_until_it_is_started_again(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    service = python_service(tmp_path, "oven", READY_THEN_SLEEP)
    start_ready(supervisor, service)
    supervisor.kill("oven", restart=False)
    assert supervisor.running() == ()
    supervisor.check()
    start_ready(supervisor, service)
    assert supervisor.restarts == {"oven": 0}


def test_a_service_that_keeps_dying_is_given_up_with_its_reason(tmp_path: Path) -> None:
    policy = RestartPolicy(max_in_a_row=3, first_delay_s=0.01)
    heard: list[str] = []
    flaky = python_service(tmp_path, "oven", 'print("ready", flush=True); raise SystemExit("burnt")')

    def given_up() -> bool:
        try:
            supervisor.check()
        except StackError as error:
            failures.append(str(error))
        return bool(failures)

    failures: list[str] = []
    with Supervisor(policy=policy, on_event=heard.append) as supervisor:
        supervisor.start(flaky)
        wait_until(given_up, 20, "giving up")
        assert "oven ended with exit code 1 after 3 restarts" in failures[0]
        assert "| burnt" in failures[0]
        assert supervisor.restarts == {"oven": 3}
        assert len(heard) == 3


def test_a_service_that_must_not_be_restarted_is_reported_when_it_dies(supervisor: Supervisor, tmp_path: Path) -> None:
    (pid,) = start_ready(supervisor, python_service(tmp_path, "ksqldb", READY_THEN_SLEEP, restart=False))
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: "ksqldb" not in supervisor.running(), 20, "its end")
    with pytest.raises(StackError, match="ksqldb was ended by SIGKILL"):
        wait_until(lambda: supervisor.check(), 20, "its report")


def test_an_error_in_the_listener_of_events_reaches_the_caller(tmp_path: Path) -> None:
    def listener(_text: str) -> None:
        raise ZeroDivisionError("in the listener")

    with Supervisor(on_event=listener) as supervisor:
        start_ready(supervisor, python_service(tmp_path, "oven", READY_THEN_SLEEP))
        supervisor.kill("oven")
        with pytest.raises(StackError, match="in the listener"):
            wait_until(lambda: supervisor.check(), 20, "the report")


def test_stopping_lets_services_end_in_order_and_kills_those_that_do_not(tmp_path: Path) -> None:
    polite = (
        "import signal, sys, time\n"
        'signal.signal(signal.SIGTERM, lambda *_: (print("goodbye", flush=True), sys.exit(0)))\n'
        'print("ready", flush=True)\n'
        "time.sleep(600)"
    )
    with Supervisor(grace_s=1.0) as supervisor:
        pids = start_ready(
            supervisor,
            python_service(tmp_path, "polite", polite),
            python_service(tmp_path, "stubborn", IGNORES_SIGTERM),
        )
        supervisor.stop()
        assert not any(alive(pid) for pid in pids)
        assert "goodbye" in (tmp_path / "polite.log").read_text()
        assert supervisor.restarts == {"polite": 0, "stubborn": 0}
        supervisor.stop()


def test_what_a_service_had_started_goes_with_it(supervisor: Supervisor, tmp_path: Path) -> None:
    start_ready(supervisor, python_service(tmp_path, "wrapper", STARTS_A_CHILD))
    first = child_pid(tmp_path / "wrapper.log")
    supervisor.kill("wrapper")
    wait_until(lambda: not alive(first), 5, "end of the killed service's child")
    supervisor.wait_ready(["wrapper"], timeout_s=20)
    second = int((tmp_path / "wrapper.log").read_text().split("child ")[2].split()[0])
    supervisor.stop()
    wait_until(lambda: not alive(second), 5, "end of the stopped service's child")


def test_a_program_meant_to_end_is_waited_for(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.run_once(python_service(tmp_path, "init", 'print("ready: topics created")'), timeout_s=20)
    assert "topics created" in (tmp_path / "init.log").read_text()
    assert supervisor.restarts == {}


def test_a_program_meant_to_end_that_fails_is_named_with_its_last_lines(supervisor: Supervisor, tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"(?s)init ended with exit code 3.*no broker"):
        supervisor.run_once(python_service(tmp_path, "init", 'print("no broker"); raise SystemExit(3)'), 20)


def test_starting_a_running_service_again_is_refused(supervisor: Supervisor, tmp_path: Path) -> None:
    service = python_service(tmp_path, "oven", READY_THEN_SLEEP)
    start_ready(supervisor, service)
    with pytest.raises(StackError, match="oven is running already"):
        supervisor.start(service)


def test_sigterm_becomes_an_exception_that_cleans_up(tmp_path: Path) -> None:
    pids: list[int] = []

    def run() -> None:
        with signals_as_exceptions(), Supervisor() as supervisor:
            pids.extend(start_ready(supervisor, python_service(tmp_path, "oven", READY_THEN_SLEEP)))
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Terminated, match="SIGTERM"):
        run()
    assert not alive(pids[0])


def test_ctrl_c_while_stopping_waits_until_everything_is_stopped(tmp_path: Path) -> None:
    supervisor = Supervisor(grace_s=1.0)
    (pid,) = start_ready(supervisor, python_service(tmp_path, "stubborn", IGNORES_SIGTERM))
    threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        supervisor.stop()
    assert not alive(pid)


def test_the_delay_before_a_restart_grows_and_ends() -> None:
    policy = RestartPolicy(max_in_a_row=8)
    assert [policy.delay_s(deaths) for deaths in range(1, 10)] == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, None]


def watchdog_pids() -> set[int]:
    """This process's children that run a watchdog: other tests' stacks may have theirs."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {int(pid) for pid in children if watchdog.__file__.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()}


def test_the_loss_of_the_watchdog_is_noticed(supervisor: Supervisor, tmp_path: Path) -> None:
    others = watchdog_pids()
    start_ready(supervisor, python_service(tmp_path, "oven", READY_THEN_SLEEP))
    (mine,) = watchdog_pids() - others
    os.kill(mine, signal.SIGKILL)
    with pytest.raises(StackError, match="watchdog process was ended by SIGKILL"):
        wait_until(lambda: supervisor.check(), 5, "notice")
