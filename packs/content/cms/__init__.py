"""The studio's content management system: a business system of its own, importing nothing else of the project."""
