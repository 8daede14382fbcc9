"""The figures of the comparison with peers, from what a run leaves."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.peers import syncs, tally
from benchmarks.peers.engine import IN_FLIGHT
from benchmarks.peers.restate.peer import wal_settings

TASKS = [f"task-{number}" for number in range(4)]


def test_a_repeated_effect_makes_its_task_duplicated_once_and_counts_every_effect_too_many() -> None:
    effects = ["task-0", "task-1", "task-1", "task-1", "task-2", "task-3"]
    found = tally.kills_of(TASKS, effects, TASKS, ["task-1", "task-1"], kills=2)
    assert (found.duplicated, found.repeats, found.victims, found.kills) == (1, 2, 1, 2)
    assert (found.without_effect, found.without_end) == (0, 0)


def test_a_task_without_effect_and_a_task_without_end_are_lost() -> None:
    found = tally.kills_of(TASKS, ["task-0", "task-1", "task-2"], ["task-0", "task-1", "task-3"], [], kills=1)
    assert (found.without_effect, found.without_end) == (1, 1)


def test_effects_of_the_tasks_that_warm_up_are_not_counted() -> None:
    found = tally.kills_of(TASKS, [*TASKS, "warm-0", "warm-0"], TASKS, [], kills=1)
    assert (found.duplicated, found.repeats) == (0, 0)


def test_what_waits_for_a_person_is_not_lost() -> None:
    found = tally.kills_of(TASKS, TASKS, TASKS[:3], [], kills=1, waiting=["task-3"])
    assert (found.without_end, found.waiting) == (0, 1)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.1, 100))
def test_a_percentile_is_the_least_value_that_so_many_do_not_exceed(values: list[float], percent: float) -> None:
    ranked = sorted(values)
    found = tally.percentile(ranked, percent)
    assert sum(value <= found for value in ranked) * 100 >= percent * len(ranked)
    assert sum(value < found for value in ranked) * 100 < percent * len(ranked)


def test_a_percentile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        tally.percentile([], 50)


def test_the_median_of_runs_is_each_figures_own() -> None:
    runs = [tally.Speed(1.0, 30.0, 90.0, 5.0), tally.Speed(3.0, 10.0, 70.0, 7.0), tally.Speed(2.0, 20.0, 80.0, 6.0)]
    assert tally.median_of(runs) == tally.Speed(2.0, 20.0, 80.0, 6.0)
    assert tally.speed(2.0, [30.0, 10.0, 20.0, 40.0], 7.04) == tally.Speed(2.0, 20.0, 40.0, 7.0)


@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(0, 2000))
def test_kills_come_one_in_each_stretch_and_leave_room_for_what_is_withheld(seed: int, kills: int, more: int) -> None:
    tasks = (kills + 1) * (IN_FLIGHT + 1) + more
    moments = tally.kill_plan(seed, tasks, kills)
    stretch = tasks // (kills + 1)
    assert [moment.effect // stretch for moment in moments] == list(range(kills))
    assert all(1 <= moment.held <= IN_FLIGHT and moment.effect + moment.held < tasks for moment in moments)
    assert moments == tally.kill_plan(seed, tasks, kills)


def test_too_few_tasks_for_the_kills_are_refused() -> None:
    with pytest.raises(ValueError, match="390 are needed"):
        tally.kill_plan(1, 100, 5)


def test_the_moments_of_two_seeds_differ() -> None:
    assert len({str(tally.kill_plan(seed, 1000, 5)) for seed in range(20)}) == 20


def test_the_calls_that_strace_counted_are_summed_with_and_without_errors() -> None:
    table = """% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 90.00    0.381916         771       495           fdatasync
  9.00    0.001916          71         5         2 fsync
  1.00    0.000016           1        40           openat
------ ----------- ----------- --------- --------- ----------------
100.00    0.383848         771       540           total
"""
    assert syncs.parse_calls(table) == 500
    assert syncs.parse_calls("") == 0


def test_the_switches_of_restates_logs_are_found_in_every_table() -> None:
    dump: dict[str, object] = {
        "worker": {"batch": 1},
        "bifrost": {"local": {"rocksdb-disable-wal": False, "rocksdb-disable-wal-fsync": False}},
        "log-server": {"rocksdb-disable-wal-fsync": True},
    }
    assert wal_settings(dump) == {
        "bifrost.local.rocksdb-disable-wal": "false",
        "bifrost.local.rocksdb-disable-wal-fsync": "false",
        "log-server.rocksdb-disable-wal-fsync": "true",
    }


def test_the_counts_agree_with_a_plain_count() -> None:
    effects = ["task-0"] * 3 + ["task-2"] * 2
    found = tally.kills_of(TASKS, effects, TASKS, [], kills=1)
    counts = Counter(effects)
    assert found.repeats == len(effects) - len(counts)
    assert found.without_effect == len(TASKS) - len(counts)
