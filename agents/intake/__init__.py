"""Intake: what comes by HTTP, mail, files and tables, as events on the bus or in quarantine with the reason."""
