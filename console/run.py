"""``workmesh run ROLE``: one process of the mesh, in the foreground."""

import asyncio
import sys
from importlib.metadata import entry_points
from pathlib import Path

import click
import msgspec
import uvloop

from mesh.cli import config_option, first_error
from mesh.errors import SettingsError, WorkmeshError
from mesh.settings import load

GROUP = "workmesh.roles"


@click.command()
@click.argument("role")
@config_option
def run(role: str, config: Path | None) -> None:
    """Run one process of ROLE: perception, planner, policy, executor, learner, memory, auditor, model, intake, console,
    tracer.

    A copy on the same host has a name of its own behind a dash (executor-2), which is its role_instance.
    """
    roles = {point.name: point for point in entry_points(group=GROUP)}
    name, _, copy = role.partition("-")
    if name not in roles or role.endswith("-"):
        raise click.UsageError(f"no role {role!r}: there are {', '.join(sorted(roles))}")
    settings = load(config)
    if copy and not settings.role_instance:
        settings = msgspec.structs.replace(settings, role_instance=role)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(roles[name].load()(settings))
    except BaseExceptionGroup as group:
        raise first_error(group) from group
    except SettingsError:
        raise
    except WorkmeshError as error:
        click.echo(f"workmesh: {role}: {error}", err=True)
        sys.exit(1)
