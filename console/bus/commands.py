"""``workmesh bus``: what can be said and heard on the bus, as a document, and as configuration of its servers."""

from pathlib import Path

import click
import msgspec

from console.bus.asyncapi import document
from console.bus.config import config
from console.bus.leaf import leaf
from console.bus.making import make
from console.bus.uplink import site, uplink
from console.targets import command as targets
from mesh.pack import load_packs
from mesh.service import offered


@click.group()
def bus() -> None:
    """Describe the bus, and configure its servers."""


bus.add_command(config)
bus.add_command(leaf)
bus.add_command(make)
bus.add_command(site)
bus.add_command(targets)
bus.add_command(uplink)


@bus.command()
@click.argument("packs", metavar="[PACK]...", nargs=-1)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write it to this file.")
def asyncapi(packs: tuple[str, ...], out: Path | None) -> None:
    """Print the AsyncAPI 3.0 document of the bus, with the events of each PACK, or of all that are installed."""
    text = msgspec.json.format(msgspec.json.encode(document(load_packs(packs), offered())), indent=1).decode()
    if out is None:
        click.echo(text)
    else:
        out.write_text(text + "\n", encoding="utf-8")
