"""A domain that does nothing, or one HTTP call: what the shared system itself costs is all that is left to measure."""
