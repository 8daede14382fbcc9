"""The retail demonstration: the shop as a process of its own, and what it says of what was done to it."""

import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2
import msgspec

from mesh.demo import Applied, Systems
from mesh.supervisor import ChildSpec

_PAGE = 1000
_LIMIT_S = 30.0


class _Entry(msgspec.Struct):
    seq: int
    key: str
    kind: str


class _Page(msgspec.Struct):
    changes: list[_Entry]


class _Expected(msgspec.Struct):
    id: str
    outcome: str
    order: dict[str, Any] | None = None


class _World(msgspec.Struct):
    orders: dict[str, dict[str, Any]]
    users: dict[str, Any]


class RetailDemo:
    """Runs the shop on the given data; the sample is the pack's own."""

    sample = Path(__file__).parent / "sample"
    roles = ("refund_manager",)

    def systems(self, data: Path, folder: Path, faults: Mapping[str, Any]) -> Systems:
        """The shop on a free port of 127.0.0.1. ``faults`` are the shop's own (see its README), for tests."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        port = _free_port()
        argv = [sys.executable, "-m", "packs.retail.shop", "--data", str(data.resolve())]
        argv += ["--db", str(folder / "shop.db"), "--port", str(port)]
        if faults:
            argv += ["--faults", "--faults-json", msgspec.json.encode(faults).decode()]
        options: dict[str, Any] = {
            "shop_url": f"http://127.0.0.1:{port}",
            "outbox_dir": str((folder / "outbox").resolve()),
        }
        if faults.get("keys") == "ignore":
            options["recovery"] = "verifiable"
        return Systems([ChildSpec("shop", tuple(argv), folder / "shop.log")], options)

    async def applied(self, options: Mapping[str, Any]) -> list[Applied]:
        """The shop's log of changes, and the letters in the outbox."""
        found: list[Applied] = []
        after = 0
        async with httpx2.AsyncClient(base_url=options["shop_url"], timeout=_LIMIT_S, trust_env=False) as client:
            while True:
                answer = await client.get("/changes", params={"after": after, "limit": _PAGE})
                page = msgspec.json.decode(answer.raise_for_status().content, type=_Page).changes
                if not page:
                    return found
                found += [Applied(entry.key, entry.kind) for entry in page]
                after = page[-1].seq

    async def world(self, options: Mapping[str, Any]) -> msgspec.Raw:
        """The shop's export."""
        async with httpx2.AsyncClient(base_url=options["shop_url"], timeout=_LIMIT_S, trust_env=False) as client:
            answer = await client.get("/export")
            return msgspec.Raw(answer.raise_for_status().content)

    def differences(self, expected: Sequence[bytes], world: msgspec.Raw) -> list[str]:
        """Compare the order of each completed line, money to the cent."""
        orders = msgspec.json.decode(world, type=_World).orders
        found: list[str] = []
        for raw in expected:
            line = msgspec.json.decode(raw, type=_Expected)
            if line.outcome != "completed" or line.order is None:
                continue
            order = orders.get(line.order["order_id"], {})
            found += [
                f"{line.id}: order {line.order['order_id']}: {name} is {order.get(name)!r}, expected {value!r}"
                for name, value in line.order.items()
                if not _equal(order.get(name), value)
            ]
        return found


def _equal(ours: Any, theirs: Any) -> bool:
    """Equal values; numbers to the cent."""
    if isinstance(theirs, bool) or isinstance(ours, bool):
        return bool(ours is theirs)
    if isinstance(theirs, int | float) and isinstance(ours, int | float):
        return round(ours * 100) == round(theirs * 100)
    if isinstance(theirs, list) and isinstance(ours, list):
        return len(ours) == len(theirs) and all(_equal(a, b) for a, b in zip(ours, theirs, strict=True))
    if isinstance(theirs, dict) and isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(_equal(ours[key], value) for key, value in theirs.items())
    return bool(ours == theirs)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


demo = RetailDemo()
