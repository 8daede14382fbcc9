"""``workmesh models``: what models are asked, what they cost, and one to try things with."""

import click

from console.scripted import scripted


@click.group()
def models() -> None:
    """Models: a scripted one to try things with."""


models.add_command(scripted)
