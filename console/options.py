"""Options and output that many commands share."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
from rich.console import Console

T = TypeVar("T")

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="WORKMESH_CONFIG",
    help="Settings file (TOML). Default: built-in settings under the environment (WORKMESH_...).",
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine; an error inside a task group comes out as itself."""
    try:
        return asyncio.run(work)
    except BaseExceptionGroup as group:
        raise first_error(group) from group


def first_error(group: BaseExceptionGroup) -> BaseException:
    """The first error that is no group."""
    error = group.exceptions[0]
    return first_error(error) if isinstance(error, BaseExceptionGroup) else error


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    click.echo(msgspec.json.encode(value).decode())


def stdout() -> Console:
    """Rich output for people; as wide as it needs when it is not a terminal."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def money(amount: int, currency: str) -> str:
    """Minor units as people write them: 35449 USD is 354.49 USD."""
    sign = "-" if amount < 0 else ""
    return f"{sign}{abs(amount) // 100:,}.{abs(amount) % 100:02d} {currency}"
