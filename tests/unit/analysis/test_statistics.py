from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.analysis.statistics import maximum_or_none, needed_for, percentile_or_none


@pytest.mark.parametrize(("q", "needed"), [(0.5, 2), (0.9, 10), (0.95, 20), (0.99, 100), (0.999, 1000)])
def test_a_quantile_needs_one_expected_observation_beyond_it(q: float, needed: int) -> None:
    assert needed_for(q) == needed
    assert percentile_or_none([1.0] * (needed - 1), q) is None
    assert percentile_or_none([1.0] * needed, q) == 1.0


@settings(deadline=None)
@given(st.lists(st.integers(-(10**12), 10**12), min_size=20), st.sampled_from([0.5, 0.95]))
def test_a_quantile_has_its_share_of_the_sample_at_or_below_it(values: list[int], q: float) -> None:
    quantile = percentile_or_none(values, q)

    assert quantile is not None
    assert min(values) <= quantile <= max(values)
    assert sum(value <= quantile for value in values) >= q * (len(values) - 1)
    assert sum(value >= quantile for value in values) >= (1 - q) * (len(values) - 1)


def test_the_maximum_is_there_for_any_sample_but_an_empty_one() -> None:
    assert maximum_or_none([]) is None
    assert maximum_or_none([3, 9, 4]) == 9.0
    assert percentile_or_none([], 0.5) is None


@pytest.mark.parametrize("q", [0, 1, 1.5, -0.1])
def test_what_is_no_quantile_is_refused(q: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        needed_for(q)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-1e6, 1e6), min_size=100, max_size=150))
def test_quantiles_are_those_of_numpy(values: list[float]) -> None:
    for q in (0.5, 0.95, 0.99):
        assert percentile_or_none(values, q) == pytest.approx(float(np.quantile(values, q)), abs=1e-6)


def test_a_quantile_among_values_without_an_end_is_not_known() -> None:
    values = list(range(19))
    assert percentile_or_none(values, 0.5, censored=1) == 9.5
    assert percentile_or_none(values, 0.95, censored=1) is None
    assert percentile_or_none([], 0.5, censored=50) is None
