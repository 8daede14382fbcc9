"""A domain for the crash matrix alone: tasks whose last step the retail shop refuses, so that the first is undone."""
