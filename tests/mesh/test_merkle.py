"""The tree of RFC 9162: the definitions of the RFC itself, the vectors of Certificate Transparency, and forgeries."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.merkle import Frontier, Tree, leaf_hash, node_hash, verify_consistency, verify_inclusion

# The reference data of github.com/google/certificate-transparency (cpp/merkletree/merkle_tree_test.cc).
INPUTS = ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
INCLUSION = {
    (0, 8): (
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ),
    (2, 3): ("fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",),
}
CONSISTENCY = {
    (6, 8): (
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ),
    (1, 1): (),
}
LEAVES = st.lists(st.binary(max_size=4), max_size=70).map(lambda items: [leaf_hash(item) for item in items])


# RFC 9162 2.1.1, 2.1.3.1 and 2.1.4.1, as they are written there.
def split(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def mth(d: list[bytes]) -> bytes:
    if not d:
        return hashlib.sha256().digest()
    if len(d) == 1:
        return d[0]
    k = split(len(d))
    return node_hash(mth(d[:k]), mth(d[k:]))


def path(m: int, d: list[bytes]) -> list[bytes]:
    if len(d) == 1:
        return []
    k = split(len(d))
    return [*path(m, d[:k]), mth(d[k:])] if m < k else [*path(m - k, d[k:]), mth(d[:k])]


def subproof(m: int, d: list[bytes], known: bool) -> list[bytes]:
    if m == len(d):
        return [] if known else [mth(d)]
    k = split(len(d))
    if m <= k:
        return [*subproof(m, d[:k], known), mth(d[k:])]
    return [*subproof(m - k, d[k:], False), mth(d[:k])]


def test_the_roots_and_proofs_are_those_of_certificate_transparency() -> None:
    leaves = [leaf_hash(bytes.fromhex(text)) for text in INPUTS]
    tree, frontier = Tree(leaves), Frontier()
    assert frontier.root() == Tree().root() == hashlib.sha256().digest()
    for size, (leaf, root) in enumerate(zip(leaves, ROOTS, strict=True), 1):
        frontier.append(leaf)
        assert frontier.root().hex() == tree.root(size).hex() == root
    for (index, size), steps in INCLUSION.items():
        assert [step.hex() for step in tree.inclusion_proof(index, size)] == list(steps)
    for (old, size), steps in CONSISTENCY.items():
        assert [step.hex() for step in tree.consistency_proof(old, size)] == list(steps)


@given(LEAVES)
def test_roots_are_those_of_the_definition_at_every_size(leaves: list[bytes]) -> None:
    tree, frontier = Tree(leaves), Frontier()
    for size in range(len(leaves) + 1):
        assert tree.root(size) == frontier.root() == mth(leaves[:size])
        if size < len(leaves):
            assert tree.leaf(size) == leaves[size]
            frontier.append(leaves[size])


@given(LEAVES.filter(bool), st.data())
def test_inclusion_proofs_are_those_of_the_definition_and_prove_one_place_only(
    leaves: list[bytes], data: st.DataObject
) -> None:
    tree = Tree(leaves)
    size = data.draw(st.integers(1, len(leaves)))
    index = data.draw(st.integers(0, size - 1))
    proof, root = tree.inclusion_proof(index, size), tree.root(size)
    assert proof == path(index, leaves[:size])
    assert verify_inclusion(leaves[index], index, size, proof, root)
    assert not verify_inclusion(leaf_hash(b"another leaf"), index, size, proof, root)
    other = data.draw(st.integers(0, size + 2))
    if other >= size or leaves[other] != leaves[index]:
        assert not verify_inclusion(leaves[index], other, size, proof, root)
    assert not verify_inclusion(leaves[index], index, size, [*proof, root], root)
    assert not proof or not verify_inclusion(leaves[index], index, size, proof[:-1], root)


@given(LEAVES, st.data())
def test_consistency_proofs_are_those_of_the_definition_and_fit_no_other_tree(
    leaves: list[bytes], data: st.DataObject
) -> None:
    tree = Tree(leaves)
    size = data.draw(st.integers(0, len(leaves)))
    old = data.draw(st.integers(0, size))
    proof, old_root, root = tree.consistency_proof(old, size), tree.root(old), tree.root(size)
    assert proof == (subproof(old, leaves[:size], True) if 0 < old < size else [])
    assert verify_consistency(old, size, proof, old_root, root)
    if old:
        changed = Tree([*leaves[: old - 1], leaf_hash(b"another leaf")]).root()
        assert not verify_consistency(old, size, proof, changed, root)
    if old < size:
        assert not verify_consistency(old, size, proof, old_root, leaf_hash(b"another root")) or old == 0
    assert not verify_consistency(size + 1, size, proof, old_root, root)


def test_what_is_not_in_the_tree_has_no_proof() -> None:
    tree = Tree([leaf_hash(b"")] * 3)
    for index in (3, -1):
        with pytest.raises(ValueError, match="tree of 3 leaves"):
            tree.inclusion_proof(index)
    with pytest.raises(ValueError, match="tree of 3 leaves"):
        tree.consistency_proof(4)
    with pytest.raises(ValueError, match="the tree has 3 leaves, not 4"):
        tree.root(4)
