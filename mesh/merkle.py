"""The Merkle tree of RFC 9162, section 2.1, over SHA-256: roots, inclusion and consistency, proofs and their checks.

The rule: pure, and only hashes in memory; what a leaf is made of is its owner's business.
"""

import hashlib
from collections.abc import Iterable, Sequence

EMPTY_ROOT = hashlib.sha256().digest()
HASH_BYTES = 32


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """A tree that only grows: it keeps the roots of its complete subtrees, one for each bit of its size."""

    __slots__ = ("_roots", "size")

    def __init__(self) -> None:
        self.size = 0
        self._roots: list[bytes] = []  # largest subtree first

    def append(self, leaf: bytes) -> None:
        """Add the hash of one leaf."""
        carry = self.size
        while carry & 1:
            leaf = node_hash(self._roots.pop(), leaf)
            carry >>= 1
        self._roots.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """The root of the tree as it is now."""
        if not self._roots:
            return EMPTY_ROOT
        *rest, root = self._roots
        for left in reversed(rest):
            root = node_hash(left, root)
        return root


class Tree:
    """A tree with the hashes of all its complete subtrees (64 bytes a leaf): any root and proof in O(log n)."""

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self._levels: list[bytearray] = [bytearray()]
        for leaf in leaves:
            self.append(leaf)

    def __len__(self) -> int:
        return len(self._levels[0]) // HASH_BYTES

    def append(self, leaf: bytes) -> None:
        """Add the hash of one leaf."""
        index, level = len(self), 0
        self._levels[0] += leaf
        while index & 1:
            pair = self._levels[level][-2 * HASH_BYTES :]
            index, level = index >> 1, level + 1
            if level == len(self._levels):
                self._levels.append(bytearray())
            self._levels[level] += node_hash(bytes(pair[:HASH_BYTES]), bytes(pair[HASH_BYTES:]))

    def leaf(self, index: int) -> bytes:
        """The hash of the leaf with this index, from 0."""
        return self._complete(0, index)

    def root(self, size: int | None = None) -> bytes:
        """The root of the first ``size`` leaves, of all by default."""
        size = self._checked(size)
        return self._range(0, size) if size else EMPTY_ROOT

    def inclusion_proof(self, index: int, size: int | None = None) -> list[bytes]:
        """PATH(index, D[size]) of section 2.1.3.1; raises ``ValueError`` when there is no such leaf."""
        size = self._checked(size)
        if not 0 <= index < size:
            raise ValueError(f"a tree of {size} leaves has none with the index {index}")
        path: list[bytes] = []
        low, high = 0, size
        while high - low > 1:
            middle = low + _split(high - low)
            if index < middle:
                path.append(self._range(middle, high))
                high = middle
            else:
                path.append(self._range(low, middle))
                low = middle
        return path[::-1]

    def consistency_proof(self, old: int, size: int | None = None) -> list[bytes]:
        """PROOF(old, D[size]) of section 2.1.4.1, empty for ``old`` 0 or ``size``; raises ``ValueError``."""
        size = self._checked(size)
        if not 0 <= old <= size:
            raise ValueError(f"a tree of {size} leaves has no beginning of {old}")
        if old in (0, size):
            return []
        path: list[bytes] = []
        low, high, known = 0, size, True
        while high != old:
            middle = low + _split(high - low)
            if old <= middle:
                path.append(self._range(middle, high))
                high = middle
            else:
                path.append(self._range(low, middle))
                low, known = middle, False
        if not known:
            path.append(self._range(low, high))
        return path[::-1]

    def _checked(self, size: int | None) -> int:
        size = len(self) if size is None else size
        if not 0 <= size <= len(self):
            raise ValueError(f"the tree has {len(self)} leaves, not {size}")
        return size

    def _complete(self, level: int, index: int) -> bytes:
        start = index * HASH_BYTES
        return bytes(self._levels[level][start : start + HASH_BYTES])

    def _range(self, low: int, high: int) -> bytes:
        """MTH(D[low:high]), where ``low`` is a multiple of the largest complete subtree in it."""
        count = high - low
        if count & (count - 1) == 0:
            level = count.bit_length() - 1
            return self._complete(level, low >> level)
        middle = low + _split(count)
        return node_hash(self._range(low, middle), self._range(middle, high))


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether the proof shows that this leaf hash stands at ``index`` in the tree of this root (section 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    place, last, found = index, size - 1, leaf
    for step in proof:
        if last == 0:
            return False
        if place & 1 or place == last:
            found = node_hash(step, found)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, step)
        place, last = place >> 1, last >> 1
    return last == 0 and found == root


def verify_consistency(old: int, size: int, proof: Sequence[bytes], old_root: bytes, root: bytes) -> bool:
    """Whether the proof shows that the tree of ``root`` begins with that of ``old_root`` (section 2.1.4.2)."""
    if not 0 <= old <= size:
        return False
    if old == size:
        return not proof and old_root == root
    if old == 0:
        return not proof and old_root == EMPTY_ROOT
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not path:
        return False
    place, last = old - 1, size - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    first = second = path[0]
    for step in path[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            first, second = node_hash(step, first), node_hash(step, second)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            second = node_hash(second, step)
        place, last = place >> 1, last >> 1
    return last == 0 and first == old_root and second == root


def _split(count: int) -> int:
    """The largest power of two below ``count``, which is 2 or more."""
    return 1 << ((count - 1).bit_length() - 1)
