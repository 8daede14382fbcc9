"""``workmesh run ROLE``: one process of the mesh, in the foreground."""

import asyncio
import sys
from importlib.metadata import entry_points
from pathlib import Path

import click
import uvloop

from mesh.cli import config_option, first_error
from mesh.errors import SettingsError, WorkmeshError
from mesh.settings import load

GROUP = "workmesh.roles"


@click.command()
@click.argument("role")
@config_option
def run(role: str, config: Path | None) -> None:
    """Run one process: perception, planner, policy, executor, learner, memory or auditor."""
    roles = {point.name: point for point in entry_points(group=GROUP)}
    if role not in roles:
        raise click.UsageError(f"no role {role!r}: there are {', '.join(sorted(roles))}")
    settings = load(config)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(roles[role].load()(settings))
    except BaseExceptionGroup as group:
        raise first_error(group) from group
    except SettingsError:
        raise
    except WorkmeshError as error:
        click.echo(f"workmesh: {role}: {error}", err=True)
        sys.exit(1)
