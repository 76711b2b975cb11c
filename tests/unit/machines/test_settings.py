from __future__ import annotations

import pytest

from machines.runtime.settings import SettingsError, read_settings


def test_capacities_are_read_by_topic_and_fall_back_to_the_default() -> None:
    settings = read_settings({"CAPACITY": "2", "CAPACITY_OVEN_MACHINE": "5"})
    assert (settings.capacity("oven-machine"), settings.capacity("dough-shaper")) == (5, 2)


def test_work_grows_with_toppings_and_scales_with_time() -> None:
    settings = read_settings({"WORK_MS": "1000", "WORK_MS_PER_TOPPING": "50", "TIME_SCALE": "0.1"})
    assert settings.work_s(4) == pytest.approx(0.12)


@pytest.mark.parametrize(
    ("name", "value"),
    [("WORK_MS", "-1"), ("WORK_MS", "nan"), ("TIME_SCALE", "fast"), ("CAPACITY", "0"), ("CAPACITY_OVEN_MACHINE", "1.5"),
     ("PORT", "http"), ("MAX_BACKLOG_PIZZAS", "0")],
)  # fmt: skip
def test_a_setting_that_cannot_be_meant_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        read_settings({name: value})
