"""Runs the Python of one page in one namespace: a line of JSON in is code, a line of JSON out is what it printed.

Code that fails ends this process, with its traceback on stderr.
"""

import importlib
import io
import json
import sys
from contextlib import redirect_stdout
from typing import Any


def main() -> None:
    """Serve until standard input ends."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for line in sys.stdin:
        block = json.loads(line)
        printed = io.StringIO()
        importlib.invalidate_caches()
        with redirect_stdout(printed):
            exec(compile("\n" * (block["line"] - 1) + block["code"], block["page"], "exec"), namespace)
        sys.stdout.write(json.dumps(printed.getvalue()) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
