"""The library under every Workmesh process: records, bus, journal, runtime, tools, identity, settings.

It imports nothing else of the project. Import the modules themselves; this package re-exports nothing.
"""

__all__: list[str] = []
