"""The library under every Workmesh process: records, bus, journal, runtime, tools, identity, settings.

It imports nothing else of the project. Import the modules themselves; this package re-exports nothing.
"""

__all__: list[str] = []

import sys

# structlog loads rich, where there is one, for tracebacks that our log never shows: half of what structlog takes, and a
# tenth of the start of every process.
if "structlog" not in sys.modules and "rich" not in sys.modules:
    sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        import structlog  # noqa: F401
    finally:
        del sys.modules["rich"]
