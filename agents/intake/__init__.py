"""Intake: what comes from outside becomes events, or goes to quarantine with the reason."""
