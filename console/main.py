"""The command ``workmesh``: nouns, then verbs; the parts of the product add their own (``workmesh.commands``).

The rule: one JSON document on stdout with ``--json``, logs on stderr; exit 0 done, 1 failed, 2 wrong use.
"""

import sys
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points, version

import click

from mesh import logs
from mesh.errors import SettingsError, WorkmeshError
from mesh.settings import LogSettings

GROUP = "workmesh.commands"

# Name of each command here, and where it is; imported only when it is called, so that a process starts lean.
_OWN = {
    "up": "console.up:up",
    "run": "console.run:run",
    "publish": "console.publish:publish",
    "tasks": "console.tasks:tasks",
    "trace": "console.trace:trace",
    "replay": "console.replay:replay",
    "approvals": "console.approvals:approvals",
    "autonomy": "console.autonomy:autonomy",
    "learn": "console.learn:learn",
    "quarantine": "console.quarantine:quarantine",
    "keys": "console.keys:keys",
    "models": "console.models:models",
    "tools": "console.tools:tools",
    "pause": "console.pause:pause",
    "resume": "console.pause:resume",
    "backup": "console.backup.commands:backup",
    "restore": "console.backup.commands:restore",
    "doctor": "console.health.commands:doctor",
    "status": "console.health.commands:status",
    "audit": "console.audit.commands:audit",
    "demo": "console.demo.command:demo",
    "pack": "console.pack.commands:pack",
    "slo": "console.slo.commands:slo",
    "bus": "console.bus.commands:bus",
    "console": "console.web.commands:console",
}


class LazyGroup(click.Group):
    """Finds a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, own and added."""
        return sorted({*_OWN, *_added()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name."""
        if cmd_name in _OWN:
            module, _, name = _OWN[cmd_name].partition(":")
            command: click.Command = getattr(import_module(module), name)
            return command
        point = _added().get(cmd_name)
        return point.load() if point else None


def _added() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(version("workmesh"), prog_name="workmesh")
def cli() -> None:
    """Workmesh: an operating system for agents that do a company's work."""


def main() -> None:
    """The entry point: errors that were foreseen are one line on stderr, not a traceback."""
    logs.configure(LogSettings(level="error"), role="workmesh", instance="cli")
    try:
        status = cli.main(standalone_mode=False)
    except click.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2 if isinstance(error, click.UsageError) else 1)
    except SettingsError as error:
        click.echo(f"workmesh: {error}", err=True)
        sys.exit(2)
    except WorkmeshError as error:
        click.echo(f"workmesh: {error}", err=True)
        sys.exit(1)
    if isinstance(status, int):  # what a command gave to its context's exit()
        sys.exit(status)


if __name__ == "__main__":
    main()
