"""Registers the endpoint, and calls the handler through Restate's ingress, each task under its own idempotency key."""

import argparse

import aiohttp
import uvloop

from benchmarks.peers.client import arguments, drive


async def main(args: argparse.Namespace) -> None:
    """The target is the ingress here, the store is the admin's URL."""
    forever = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=forever) as session:
        async with session.post(f"{args.store}/deployments", json={"uri": args.endpoint}) as answer:
            answer.raise_for_status()

        async def run(task: str) -> None:
            headers = {"Idempotency-Key": task}
            async with session.post(f"{args.target}/bench/work", json=task, headers=headers) as answer:
                answer.raise_for_status()
                await answer.read()

        async def settings() -> dict[str, str]:
            return {}

        await drive(args, run, settings)


if __name__ == "__main__":
    parser = arguments()
    parser.add_argument("--endpoint", required=True)
    uvloop.run(main(parser.parse_args()))
