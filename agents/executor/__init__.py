"""The executor: carries out permitted plans, each effect once (DESIGN 3.4 and 3.5)."""
