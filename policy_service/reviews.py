"""placeholder"""

import click


@click.command()
def diff() -> None:
    """x."""


@click.command()
def explain() -> None:
    """x."""
