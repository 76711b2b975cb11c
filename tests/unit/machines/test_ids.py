from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from machines.runtime.ids import IdSet


@given(st.lists(st.integers(0, 5000) | st.integers(0, 2**31)), st.lists(st.integers(0, 5000)))
def test_an_id_set_holds_what_a_set_holds(added: list[int], asked: list[int]) -> None:
    ids = IdSet()
    fresh = [ids.add(item) for item in added]
    assert len(ids) == len(set(added))
    assert sum(fresh) == len(set(added))
    assert all((item in ids) == (item in set(added)) for item in [*asked, *added])


def test_a_forged_huge_id_costs_no_memory() -> None:
    ids = IdSet([2**31 - 1])
    assert len(ids._chunks) == 1
