"""``workmesh bus``: what can be said and heard on the bus."""

import click


@click.group()
def bus() -> None:
    """Describe the bus."""
