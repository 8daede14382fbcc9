"""The work as a Restate handler of four ``ctx.run`` steps, served by Hypercorn; runs in the Restate environment."""

import argparse
import asyncio
import signal
from collections.abc import Callable
from typing import Any

import aiohttp
import restate
import uvloop
from hypercorn.asyncio import serve
from hypercorn.config import Config

from benchmarks.peers.client import NOTE

bench = restate.Service("bench")
session: aiohttp.ClientSession
target = ""


async def perceive(task: str) -> dict[str, str]:
    """The first record."""
    return {"task": task, "note": NOTE}


async def plan(context: dict[str, str]) -> dict[str, str]:
    """The second record."""
    return {"task": context["task"], "tool": "effects.post", "note": NOTE}


async def decide(planned: dict[str, str]) -> dict[str, str]:
    """The third record."""
    return {**planned, "verdict": "allow"}


async def act(decision: dict[str, str]) -> int:
    """The effect; its key is the task's id, which is the invocation's idempotency key too."""
    headers = {"Idempotency-Key": decision["task"]}
    async with session.post(target, json={"task": decision["task"]}, headers=headers) as response:
        response.raise_for_status()
        return int((await response.json())["number"])


@bench.handler()
async def work(ctx: restate.Context, task: str) -> int:
    """Four durable steps, one effect."""
    context = await ctx.run_typed("perceive", perceive, task=task)
    planned = await ctx.run_typed("plan", plan, context=context)
    decision = await ctx.run_typed("decide", decide, planned=planned)
    return int(await ctx.run_typed("act", act, decision=decision))


async def main(port: int, url: str) -> None:
    """Serve until SIGTERM."""
    global session, target
    target = url
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.loglevel = "WARNING"
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    trigger: Callable[[], Any] = stop.wait
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await serve(restate.app([bench]), config, shutdown_trigger=trigger)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--target", required=True)
    given = parser.parse_args()
    uvloop.run(main(given.port, given.target))
