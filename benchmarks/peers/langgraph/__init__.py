"""LangGraph with its SQLite checkpointer."""
