"""Merging: nothing that either side wrote is lost."""

from hypothesis import given
from hypothesis import strategies as st

from packs.content.merging import merge

BASE = "one\ntwo\nthree\nfour\nfive\n"
LINES = st.lists(st.sampled_from(["a", "b", "c", "d", "", "- x"]), max_size=8).map(
    lambda lines: "\n".join(lines) + "\n"
)


def test_changes_in_different_places_are_both_taken() -> None:
    merged = merge(BASE, BASE.replace("one", "ONE"), BASE.replace("five", "FIVE"))
    assert (merged.text, merged.clean) == ("ONE\ntwo\nthree\nfour\nFIVE\n", True)


def test_changes_of_one_place_are_both_kept_what_stands_first() -> None:
    merged = merge(BASE, BASE.replace("two", "ours"), BASE.replace("two", "theirs"))
    assert (merged.text, merged.conflicts) == ("one\ntheirs\nours\nthree\nfour\nfive\n", 1)


def test_the_same_change_twice_is_one() -> None:
    both = BASE.replace("two", "new")
    merged = merge(BASE, both, both)
    assert (merged.text, merged.clean) == (both, True)


def test_a_line_that_one_removes_and_the_other_changes_is_a_conflict() -> None:
    merged = merge(BASE, BASE.replace("two\n", ""), BASE.replace("two", "TWO"))
    assert not merged.clean and "TWO\n" in merged.text


@given(LINES, LINES, LINES)
def test_every_line_that_a_side_added_stands_in_the_merge(base: str, ours: str, theirs: str) -> None:
    merged = merge(base, ours, theirs).text.split("\n")
    for side in (ours, theirs):
        assert set(side.split("\n")) - set(base.split("\n")) <= set(merged)


@given(LINES, LINES)
def test_where_one_side_changed_nothing_the_other_is_taken(base: str, other: str) -> None:
    assert (merge(base, other, base).text, merge(base, base, other).text) == (other, other)
    assert merge(base, other, base).clean
