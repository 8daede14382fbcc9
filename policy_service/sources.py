"""Where a bundle on the command line is: a folder, or the name of an installed pack."""

from pathlib import Path

import click

from mesh.errors import SettingsError
from mesh.pack import load_packs, pack_names


def locate(source: str) -> tuple[Path, str]:
    """The folder and the domain that DIR means; raises ``click.UsageError``."""
    folder = Path(source)
    if folder.is_dir() and (any(folder.glob("*.cedar")) or source not in pack_names()):
        resolved = folder.resolve()
        return folder, resolved.parent.name if resolved.name == "policies" else resolved.name
    try:
        return load_packs((source,))[source].policies, source
    except SettingsError as error:
        raise click.UsageError(f"{source} is no folder, and {error}") from error


def tools_of(domain: str) -> tuple[str, ...]:
    """The tools with effects of the pack of this name; none where it is not installed, or cannot tell them."""
    try:
        pack = load_packs((domain,))[domain]
        tools = pack.tools(pack.read_options(None))
    except SettingsError:
        return ()
    return tuple(tool.name for tool in tools if not tool.read_only)
