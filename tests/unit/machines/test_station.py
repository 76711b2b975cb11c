"""Steps of one station that the random simulation of the line does not single out."""

from __future__ import annotations

import copy

import pytest

from machines.runtime.ids import IdSet
from machines.runtime.station import (
    TABLE,
    Action,
    Arrived,
    Buried,
    Bury,
    CaughtUp,
    Commit,
    Freed,
    HandedOn,
    HandOn,
    IllegalStep,
    Job,
    Memory,
    Phase,
    Signal,
    Signalled,
    Spoiled,
    Station,
    Work,
    Worked,
)

NEXT = "next-machine"


def _job(pizza_id: int, offset: int | None = None, next_topic: str = NEXT) -> Job:
    return Job(pizza_id, 1, pizza_id - 1 if offset is None else offset, next_topic, arrived_us=10)


def _ready(capacity: int | None = 1, memory: Memory | None = None) -> Station:
    station = Station({NEXT: capacity}, memory)
    station.step(CaughtUp(0))
    return station


def _kinds(actions: list[Action]) -> list[type]:
    return [type(action) for action in actions]


def test_a_pizza_is_worked_on_handed_on_signalled_and_settled_in_this_order() -> None:
    station = _ready()
    job = _job(1)
    assert station.step(Arrived(job)) == [Work(job)]
    assert station.step(Worked(30)) == [HandOn(job)]
    assert station.step(HandedOn(1, 40)) == [Signal(1, 1, 0, job)]
    assert station.step(Signalled(0)) == [Commit(1)]
    assert (job.started_us, job.finished_us, job.handed_off_us) == (10, 30, 40)


def test_the_next_pizza_is_begun_while_the_last_one_waits_for_its_acknowledgement() -> None:
    station = _ready(capacity=2)
    first, second = _job(1), _job(2)
    station.step(Arrived(first))
    assert station.step(Arrived(second)) == []
    assert station.step(Worked(20)) == [HandOn(first), Work(second)]
    assert second.started_us == 20


def test_a_finished_pizza_blocks_the_machine_until_a_place_is_free() -> None:
    station = _ready(capacity=1)
    first, second, third = _job(1), _job(2), _job(3)
    for job in (first, second, third):
        station.step(Arrived(job))
    station.step(Worked(20))
    assert station.step(Worked(30)) == []
    assert station.phase is Phase.BLOCKED
    assert station.step(Freed(NEXT, 99, 35)) == []
    assert station.step(Freed(NEXT, 1, 40)) == [HandOn(second), Work(third)]
    assert (second.finished_us, third.started_us) == (30, 40)


def test_the_same_signal_twice_frees_one_place() -> None:
    station = _ready(capacity=1)
    for number in (1, 2, 3):
        station.step(Arrived(_job(number)))
    station.step(Worked(1))
    station.step(Worked(2))
    station.step(Freed(NEXT, 1, 3))
    station.step(Worked(4))
    assert station.step(Freed(NEXT, 1, 5)) == []
    assert station.phase is Phase.BLOCKED


def test_without_limit_nothing_blocks() -> None:
    station = _ready(capacity=None)
    for number in range(1, 50):
        station.step(Arrived(_job(number)))
    for _ in range(1, 50):
        assert HandOn in _kinds(station.step(Worked(0)))


def test_a_second_record_of_a_pizza_is_dropped_wherever_the_first_one_is() -> None:
    station = _ready()
    station.step(Arrived(_job(1, offset=0)))
    assert station.step(Arrived(_job(1, offset=1))) == []  # in work; offset 0 is not settled yet
    station.step(Worked(1))
    assert station.step(Arrived(_job(1, offset=2))) == []  # handed on, not acknowledged
    station.step(HandedOn(1, 2))
    assert station.step(Arrived(_job(1, offset=3))) == []  # signalled
    assert station.step(Signalled(0)) == [Commit(4)]


def test_nothing_starts_before_the_past_is_read() -> None:
    station = Station({NEXT: 1})
    assert station.step(Arrived(_job(1))) == []
    assert _kinds(station.step(CaughtUp(70))) == [Work]
    assert station.current is not None
    assert station.current.started_us == 70


def test_what_is_in_the_next_topic_is_signalled_again_where_the_signal_is_missing() -> None:
    station = Station({NEXT: 2}, Memory(written={NEXT: IdSet([1, 2])}, freed={NEXT: IdSet([1])}, signalled=IdSet([1])))
    assert station.step(Arrived(_job(1))) == [Commit(1)]
    assert station.step(Arrived(_job(2))) == [Signal(2, 1, 1, None)]
    assert station.free_credit(NEXT) == 1
    assert station.step(CaughtUp(0)) == []


def test_pizzas_of_another_sender_in_the_next_topic_take_none_of_this_senders_places() -> None:
    station = _ready(capacity=1, memory=Memory(written={NEXT: IdSet([7, 8, 9])}))
    assert station.free_credit(NEXT) == 1


def test_a_pizza_that_went_the_other_way_is_remembered_by_where_it_went() -> None:
    memory = Memory(written={"freezer": IdSet([1]), "packaging": IdSet([1, 2])})
    station = Station({"freezer": 1, "packaging": 1}, memory)
    station.step(Arrived(_job(1, next_topic="freezer")))
    station.step(Arrived(_job(2, next_topic="packaging")))
    assert (station.free_credit("freezer"), station.free_credit("packaging")) == (0, 0)


def test_a_broken_record_is_buried_then_its_claimed_id_signalled_without_times() -> None:
    station = _ready()
    spoiled = Spoiled(0, 5, 1)
    assert station.step(spoiled) == [Bury(spoiled)]
    assert station.step(Buried(0)) == [Signal(5, 1, 0, None)]
    assert station.step(Signalled(0)) == [Commit(1)]


def test_a_broken_record_that_claims_nothing_is_settled_when_it_is_buried() -> None:
    station = _ready()
    station.step(Spoiled(0, None, None))
    assert station.step(Buried(0)) == [Commit(1)]


def test_a_broken_record_is_not_buried_again_after_a_restart_but_signalled_if_need_be() -> None:
    station = Station({NEXT: 1}, Memory(buried=IdSet([0, 1]), signalled=IdSet([5])))
    assert station.step(Spoiled(0, 5, 1)) == [Commit(1)]
    assert station.step(Spoiled(1, 6, None)) == [Signal(6, 0, 1, None)]


def test_a_sound_pizza_goes_on_though_a_broken_record_had_claimed_its_id() -> None:
    station = _ready()
    station.step(Spoiled(0, 1, 1))
    station.step(Buried(0))
    job = _job(1, offset=1)
    assert station.step(Arrived(job)) == [Work(job)]
    assert station.step(Worked(1)) == [HandOn(job)]
    assert _kinds(station.step(HandedOn(1, 2))) == [Signal]


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("event", [CaughtUp(0), Worked(0), HandedOn(1, 0), Signalled(0), Buried(0)])
def test_an_illegal_step_raises_and_changes_nothing(phase: Phase, event: object) -> None:
    station = _in_phase(phase)
    if (phase, type(event)) in ((Phase.RECOVERING, CaughtUp), (Phase.WORKING, Worked)):
        station.step(event)  # type: ignore[arg-type]
        return
    before = copy.deepcopy(vars(station))
    with pytest.raises(IllegalStep):
        station.step(event)  # type: ignore[arg-type]
    assert _comparable(vars(station)) == _comparable(before)


def _in_phase(phase: Phase) -> Station:
    station = Station({NEXT: 1}, Memory(written={NEXT: IdSet([8])}))
    if phase is Phase.RECOVERING:
        return station
    station.step(Arrived(_job(8, offset=50)))  # takes the only place at the next machine
    station.step(CaughtUp(0))
    if phase is not Phase.IDLE:
        station.step(Arrived(_job(9, offset=51)))
    if phase is Phase.BLOCKED:
        station.step(Worked(1))
    assert station.phase is phase
    return station


def _comparable(state: dict[str, object]) -> dict[str, str]:
    return {name: _flat(value) for name, value in state.items()}


def _flat(value: object) -> str:
    if isinstance(value, IdSet):
        return repr(value._chunks)
    if isinstance(value, dict):
        return repr({key: _flat(item) for key, item in value.items()})
    return repr(value)


def test_every_phase_but_recovering_takes_every_event_that_does_not_depend_on_the_phase() -> None:
    for event in (Arrived, Spoiled, Buried, Signalled, Freed):
        assert {phase for phase, kind in TABLE if kind is event} == set(Phase)
    assert {phase for phase, kind in TABLE if kind is Worked} == {Phase.WORKING}
    assert {phase for phase, kind in TABLE if kind is CaughtUp} == {Phase.RECOVERING}
