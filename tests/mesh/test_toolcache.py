"""Answers of read-only tools that are kept near the agent: for how long, under which version, and how many."""

import asyncio
from typing import Any

import msgspec
import pytest

from mesh import metrics
from mesh.errors import NotSentError, SettingsError
from mesh.toolbox import Toolbox
from mesh.toolcache import Kept, ToolCache
from mesh.tools import Tool, ToolCall
from packs.retail.pack import RetailOptions, tools


class Args(msgspec.Struct, forbid_unknown_fields=True):
    """What is looked up."""

    a: int = 0
    b: int = 0


class Answer(msgspec.Struct):
    """What it was then."""

    n: int


class Catalogue:
    """A target that counts how often it is asked, and has a version."""

    def __init__(self) -> None:
        self.asked = 0
        self.versions = 0
        self.version: str | Exception = "v1"

    async def look(self, args: Args, call: ToolCall) -> Answer:
        """Look something up."""
        self.asked += 1
        return Answer(self.asked)

    async def tell(self, args: Args, call: ToolCall) -> str:
        """Tell the version."""
        self.versions += 1
        if isinstance(self.version, Exception):
            raise self.version
        return self.version

    def tool(self, name: str, **more: Any) -> Tool:
        """A tool that looks things up."""
        return Tool(name=name, args=Args, run=self.look, read_only=True, **more)


async def read(box: Toolbox, name: str, args: str = "{}") -> int:
    """One answer."""
    raw = msgspec.Raw(args.encode())
    answer = await box.call(box.find(name), raw, key="read-t", epoch=0, call_by=0)
    return int(msgspec.json.decode(answer)["n"])


def counted(tool: str) -> dict[str, float]:
    """How the reads of a tool were answered."""
    found = {}
    for sample in next(iter(metrics.TOOL_CACHE.collect())).samples:
        if sample.labels.get("tool") == tool and sample.name.endswith("_total"):
            found[sample.labels["result"]] = sample.value
    return found


def box(*made: Tool) -> Toolbox:
    """A toolbox of these."""
    return Toolbox({tool.name: tool for tool in made}, {})


async def test_a_tool_that_says_nothing_is_asked_each_time() -> None:
    catalogue = Catalogue()
    made = box(catalogue.tool("c.plain"))
    assert [await read(made, "c.plain") for _ in range(3)] == [1, 2, 3] and counted("c.plain") == {}


async def test_an_answer_is_kept_by_tool_and_arguments_whatever_their_order_in_json() -> None:
    catalogue = Catalogue()
    made = box(catalogue.tool("c.kept", cache_s=60), catalogue.tool("c.other", cache_s=60))
    assert await read(made, "c.kept", '{"a": 1, "b": 2}') == 1
    assert await read(made, "c.kept", '{"b":2,"a":1}') == 1
    assert await read(made, "c.kept", '{"a": 2}') == 2
    assert await read(made, "c.other", '{"a": 1, "b": 2}') == 3
    assert counted("c.kept") == {"miss": 2, "hit": 1}


async def test_an_answer_holds_no_longer_than_it_was_declared_to() -> None:
    catalogue = Catalogue()
    made = box(catalogue.tool("c.brief", cache_s=0.05))
    assert await read(made, "c.brief") == await read(made, "c.brief") == 1
    await asyncio.sleep(0.06)
    assert await read(made, "c.brief") == 2


async def test_a_version_that_still_holds_renews_an_answer_and_another_one_ends_it() -> None:
    catalogue = Catalogue()
    made = box(catalogue.tool("c.version", cache_s=0.03, version=catalogue.tell))
    assert await read(made, "c.version") == 1
    await asyncio.sleep(0.04)
    assert await read(made, "c.version") == 1 and catalogue.versions == 2
    await asyncio.sleep(0.04)
    catalogue.version = "v2"
    assert await read(made, "c.version") == 2
    assert counted("c.version") == {"miss": 2, "valid": 1}


async def test_a_version_that_cannot_be_told_keeps_nothing_for_longer() -> None:
    catalogue = Catalogue()
    made = box(catalogue.tool("c.silent", cache_s=0.03, version=catalogue.tell))
    assert await read(made, "c.silent") == 1
    await asyncio.sleep(0.04)
    catalogue.version = NotSentError("away")
    assert await read(made, "c.silent") == 2


async def test_failures_are_not_kept() -> None:
    class Broken(Catalogue):
        async def look(self, args: Args, call: ToolCall) -> Answer:
            if not self.asked:
                self.asked += 1
                raise NotSentError("away")
            return await super().look(args, call)

    made = box(Broken().tool("c.broken", cache_s=60))
    assert await read(made, "c.broken") == 2  # asked again by the toolbox, and kept
    assert await read(made, "c.broken") == 2


def test_what_is_kept_is_bounded_in_number_and_bytes() -> None:
    cache = ToolCache(answers=3, size=10_000)

    def keep(n: int, size: int = 10) -> None:
        args = msgspec.Raw(f'{{"a": {n}}}'.encode())
        answer = msgspec.Raw(b'"' + b"x" * size + b'"')
        cache.served("c", Kept.new(args, answer, 60, ""), "miss")

    for n in range(5):
        keep(n)
    assert len(cache) == 3 and cache.find("c", msgspec.Raw(b'{"a": 1}')) is None
    keep(9, 9_990)
    assert len(cache) == 1
    keep(9, 300_000)
    keep(8, 11_000)
    assert len(cache) == 0 and cache._size == 0


def test_what_has_an_effect_is_never_kept_and_the_quote_of_money_neither() -> None:
    catalogue = Catalogue()
    with pytest.raises(SettingsError, match="never cached"):
        Tool(name="c.pay", args=Args, run=catalogue.look, cache_s=1)
    assert [tool.name for tool in tools(RetailOptions()) if tool.cache_s] == []
