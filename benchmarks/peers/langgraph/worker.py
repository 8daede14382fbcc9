"""The work as a LangGraph graph of four nodes, ``durability="sync"``; runs in the LangGraph environment.

A thread with a checkpoint is resumed by invoking the graph with ``None``, as its documentation says.
"""

import argparse
from typing import TypedDict

import aiohttp
import uvloop
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph

from benchmarks.peers.client import NOTE, arguments, drive


class Task(TypedDict, total=False):
    """The graph's state: what each node has added."""

    task: str
    context: dict[str, str]
    planned: dict[str, str]
    decision: dict[str, str]
    number: int


class Work:
    """The nodes, with their connection to the target."""

    def __init__(self, session: aiohttp.ClientSession, target: str) -> None:
        self._session = session
        self._target = target

    async def perceive(self, state: Task) -> Task:
        """The first record."""
        return {"context": {"task": state["task"], "note": NOTE}}

    async def plan(self, state: Task) -> Task:
        """The second record."""
        return {"planned": {"tool": "effects.post", "note": NOTE}}

    async def decide(self, state: Task) -> Task:
        """The third record."""
        return {"decision": {"verdict": "allow", "note": NOTE}}

    async def act(self, state: Task) -> Task:
        """The effect; its key is the thread's id, which is the same in every life of the process."""
        headers = {"Idempotency-Key": state["task"]}
        async with self._session.post(self._target, json={"task": state["task"]}, headers=headers) as response:
            response.raise_for_status()
            return {"number": int((await response.json())["number"])}

    def graph(self) -> StateGraph:
        """Perceive, plan, decide, act."""
        builder = StateGraph(Task)
        before = START
        for node in (self.perceive, self.plan, self.decide, self.act):
            name = f"do_{node.__name__}"
            builder.add_node(name, node)
            builder.add_edge(before, name)
            before = name
        builder.add_edge(before, END)
        return builder


async def main(args: argparse.Namespace) -> None:
    """Run all tasks; those that an earlier life left are resumed from their checkpoints."""
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
        AsyncSqliteSaver.from_conn_string(args.store) as saver,
    ):
        graph = Work(session, args.target).graph().compile(checkpointer=saver)
        await saver.setup()
        async with saver.conn.execute("SELECT DISTINCT thread_id FROM checkpoints") as rows:
            known = {row[0] for row in await rows.fetchall()}

        async def run(task: str) -> None:
            config = {"configurable": {"thread_id": task}}
            if task not in known:
                await graph.ainvoke(Task(task=task), config, durability="sync")
            elif "number" not in (await graph.aget_state(config)).values:  # else it had ended
                await graph.ainvoke(None, config, durability="sync")

        async def settings() -> dict[str, str]:
            found = {"durability": "sync"}
            for name in ("journal_mode", "synchronous"):
                async with saver.conn.execute(f"PRAGMA {name}") as rows:
                    found[name] = str((await rows.fetchone())[0])
            return found

        await drive(args, run, settings)


if __name__ == "__main__":
    uvloop.run(main(arguments().parse_args()))
