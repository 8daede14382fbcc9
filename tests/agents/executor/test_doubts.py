"""How long a call in doubt is waited for, whatever is done to the wall clock."""

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from agents.executor.doubts import Doubts
from mesh import clock
from mesh.records import Effect
from mesh.tools import Recovery, Tool, ToolCall
from tests.mesh.samples import effect as sample


class NoArgs(msgspec.Struct):
    """None."""


async def nothing(args: NoArgs, _: ToolCall) -> NoArgs:
    """Do nothing."""
    return args


TOOL = Tool(
    name="ledger.wire", args=NoArgs, run=nothing, recovery=Recovery.MANUAL, target="t", timeout_s=0.3, settle_s=0.1
)


@pytest.fixture(autouse=True)
def true_time() -> Iterator[None]:
    """Have the true time again afterwards."""
    yield
    clock.unshift()


def dispatched(seconds: float) -> Effect:
    """An effect whose call may take effect until in so many seconds."""
    at = clock.now().timestamp() + seconds
    return msgspec.structs.replace(sample("t1"), call_by=clock.now().fromtimestamp(at, clock.now().tzinfo))


def test_a_call_is_waited_for_until_its_time_is_over() -> None:
    effect, doubts = dispatched(0.1), Doubts()
    assert 0 < doubts.left_s(effect, TOOL) <= 0.2
    time.sleep(0.22)
    assert doubts.left_s(effect, TOOL) == 0
    assert doubts.left_s(effect, TOOL) == 0


def test_a_clock_that_was_set_back_by_an_hour_costs_no_more_than_a_call_takes(tmp_path: Path) -> None:
    effect, doubts = dispatched(0.3), Doubts()
    clock.shift(-3600, tmp_path)
    assert 0 < doubts.left_s(effect, TOOL) <= TOOL.timeout_s + TOOL.settle_s
    time.sleep(TOOL.timeout_s + TOOL.settle_s + 0.02)
    assert doubts.left_s(effect, TOOL) == 0
