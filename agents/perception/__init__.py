"""Perception: from a CloudEvent on the bus to a context record, or into quarantine with the reason."""
