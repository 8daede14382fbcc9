"""The planner: from a context to a plan, by the pack's playbooks; a model is another issue's way to the same record."""
