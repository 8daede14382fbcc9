"""What cuts across every handler, one layer a file, listed outermost first where a stage is built."""

__all__: list[str] = []
