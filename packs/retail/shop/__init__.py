"""The retail shop: a business system of its own, run as its own process, importing nothing else of the project."""
