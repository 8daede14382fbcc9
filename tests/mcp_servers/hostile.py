"""An MCP server over standard input and output that does what a file tells it, down to the bytes.

``FOLDER/behaviour.json``, read at each request, has ``tools`` (as listed) and ``call`` (a mode); each effect is a
line in ``FOLDER/done``.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

FOLDER = Path(sys.argv[1])


def behaviour() -> dict[str, Any]:
    """What to do now."""
    found: dict[str, Any] = json.loads((FOLDER / "behaviour.json").read_text())
    return found


def put(message: dict[str, Any]) -> None:
    """Send one message."""
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def effect(params: dict[str, Any]) -> None:
    """Do what a tool does: leave a line that tells of it."""
    key = params.get("_meta", {}).get("workmesh/idempotency-key", "")
    with (FOLDER / "done").open("a") as file:
        file.write(json.dumps({"name": params["name"], "arguments": params["arguments"], "key": key}) + "\n")


def call(identity: Any, params: dict[str, Any], mode: str) -> None:
    """Answer a call of a tool, or not."""
    content: list[dict[str, Any]] = [{"type": "text", "text": "done"}]
    if mode == "crash_before":
        os._exit(3)
    if mode == "refuse":
        return put({"id": identity, "error": {"code": -32602, "message": "no such account"}})
    if mode == "deaf":
        time.sleep(3600)
    effect(params)
    if mode == "crash_after":
        os._exit(3)
    if mode == "slow":
        time.sleep(1.5)
    if mode == "hang":
        time.sleep(3600)
    if mode == "huge":
        content = [
            {"type": "text", "text": "x" * 2_000_000},
            {"type": "image", "data": "AAAA", "mimeType": "image/png"},
        ]
    if mode == "endless":
        for _ in range(40):
            sys.stdout.write("y" * 1_000_000)
        sys.stdout.flush()
        time.sleep(3600)
    if mode == "garbage":
        sys.stdout.write('not json\n{"jsonrpc": "1.0"}\n[]\n\x00\xff\n{"id": 999, "result": {}}\n')
    if mode == "only_garbage":
        sys.stdout.write("no\n" * 5000)
        sys.stdout.flush()
        time.sleep(3600)
    if mode == "no_result":
        return put({"id": identity, "result": {"content": "not a list"}})
    put({"id": identity, "result": {"content": content, "isError": mode == "error"}})


def main() -> None:
    """Serve until the input ends."""
    (FOLDER / "pids").open("a").write(f"{os.getpid()}\n")
    (FOLDER / "environment").write_text(json.dumps(dict(os.environ)))
    if behaviour().get("start") == "fail":
        sys.stderr.write(f"no licence for {os.environ.get('LICENCE', 'nobody')}\n")
        sys.exit(1)
    for line in sys.stdin:
        message = json.loads(line)
        identity, params = message.get("id"), message.get("params", {})
        match message["method"]:
            case "initialize":
                result = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}}
                put({"id": identity, "result": {**result, "serverInfo": {"name": "hostile", "version": "1"}}})
            case "tools/list":
                put({"id": identity, "result": {"tools": behaviour()["tools"]}})
            case "tools/call":
                call(identity, params, behaviour()["call"])
            case method if identity is not None:
                put({"id": identity, "error": {"code": -32601, "message": f"no {method}"}})


if __name__ == "__main__":
    main()
