"""A set of ids that stays small: ids are dense, so they are kept as bits."""

from __future__ import annotations

from collections.abc import Iterable

_BITS = 1024


class IdSet:
    """A set of non-negative ints, about one bit per id where ids are dense; a stray huge id costs one chunk."""

    __slots__ = ("_chunks", "_size")

    def __init__(self, ids: Iterable[int] = ()) -> None:
        self._chunks: dict[int, int] = {}
        self._size = 0
        for item in ids:
            self.add(item)

    def add(self, item: int) -> bool:
        """Put ``item`` in; True if it was not there before."""
        chunk, bit = divmod(item, _BITS)
        bits = self._chunks.get(chunk, 0)
        mask = 1 << bit
        if bits & mask:
            return False
        self._chunks[chunk] = bits | mask
        self._size += 1
        return True

    def __contains__(self, item: int) -> bool:
        return self._size > 0 and bool(self._chunks.get(item // _BITS, 0) >> item % _BITS & 1)

    def __len__(self) -> int:
        return self._size
