"""``workmesh bus``: the bus described for those who would connect to it."""
