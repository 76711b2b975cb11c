"""Figures that a sample carries, and None where it does not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Sample = Sequence[int] | Sequence[float] | NDArray[np.int64] | NDArray[np.float64]


def needed_for(q: float) -> int:
    """The smallest sample that carries the ``q`` quantile: at least one observation is expected to lie beyond it.

    That is n x (1 - q) >= 1: 2 for the median, 20 for q = 0.95, 100 for q = 0.99. With fewer, every usual
    estimator (Hyndman and Fan, The American Statistician 50(4), 1996) answers with the maximum or an
    interpolation towards it, and a "p99" of ten values is the largest of the ten under another name.
    """
    if not 0 < q < 1:
        raise ValueError(f"a quantile lies between 0 and 1, not at {q}")
    return int(np.ceil(1 / (1 - q) - 1e-9))


def percentile_or_none(values: Sample, q: float, *, censored: int = 0) -> float | None:
    """The ``q`` quantile (0 < q < 1) of ``values`` in their unit, linearly interpolated; None if too few.

    ``censored`` more values belong to the sample and lie above all of ``values`` at places unknown (orders without an
    end, say): a quantile that falls among them is None.
    """
    n = len(values) + censored
    if n < needed_for(q):
        return None
    rank = (n - 1) * q
    below, above = int(np.floor(rank)), int(np.ceil(rank))
    if above >= len(values):
        return None
    lower, upper = (float(value) for value in np.partition(np.asarray(values), (below, above))[[below, above]])
    return lower + (rank - below) * (upper - lower)


def maximum_or_none(values: Sample) -> float | None:
    """The largest value; None only for an empty sample."""
    return float(np.max(np.asarray(values))) if len(values) else None
