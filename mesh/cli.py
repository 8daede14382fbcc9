"""Options and output that the commands of every part share."""

import asyncio
import re
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
from rich.console import Console
from rich.text import Text

T = TypeVar("T")

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

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


class _Verbatim(Console):
    """Shows text as it is: what comes from outside can neither style itself nor move the cursor."""

    def render_str(self, text: str, **options: Any) -> Text:
        """The text without markup, emoji codes and control characters."""
        options |= {"markup": False, "emoji": False, "highlight": False}
        return super().render_str(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", text), **options)


def stdout() -> Console:
    """Rich output for people, 160 columns wide when it is not a terminal; text from outside is shown verbatim."""
    console = _Verbatim(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = 160
    return console
