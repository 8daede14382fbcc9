"""Background tasks end with their block, for certain."""

import asyncio

import pytest

from mesh.lifetime import background, end


async def deaf_once(started: asyncio.Event) -> None:
    """Swallow one cancellation, as ``asyncio.wait_for`` of Python 3.11 can."""
    started.set()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        pass
    await asyncio.Event().wait()


async def test_a_task_that_swallows_a_cancellation_is_ended_all_the_same() -> None:
    started = asyncio.Event()
    task = asyncio.create_task(deaf_once(started))
    await started.wait()
    await end(task)
    assert task.cancelled()


async def test_leaving_the_block_ends_a_task_that_swallows_a_cancellation() -> None:
    started = asyncio.Event()
    async with background(deaf_once(started), "deaf") as task:
        await started.wait()
        assert task.get_name() == "deaf"
    assert task.cancelled()


async def test_a_task_that_is_done_stays_as_it_ended() -> None:
    async def answer() -> int:
        return 5

    task = asyncio.create_task(answer())
    await task
    await end(task)
    assert task.result() == 5


async def test_the_error_of_the_work_ends_the_block_and_is_raised() -> None:
    async def fail() -> None:
        raise OSError("no disk")

    with pytest.RaisesGroup(pytest.RaisesExc(OSError, match="no disk")):
        async with background(fail(), "failing"):
            await asyncio.Event().wait()


async def test_an_error_of_the_block_ends_the_work() -> None:
    started = asyncio.Event()
    with pytest.RaisesGroup(KeyError):
        async with background(deaf_once(started), "deaf") as task:
            await started.wait()
            raise KeyError
    assert task.cancelled()


async def test_the_one_who_waits_for_the_end_can_be_cancelled() -> None:
    held = asyncio.Event()

    async def stubborn() -> None:
        while not held.is_set():
            try:
                await held.wait()
            except asyncio.CancelledError:
                continue

    task = asyncio.create_task(stubborn())
    waiter = asyncio.create_task(end(task))
    await asyncio.wait([waiter], timeout=0.01)
    waiter.cancel()
    await asyncio.wait([waiter])
    assert waiter.cancelled() and not task.done()
    held.set()
    await task
