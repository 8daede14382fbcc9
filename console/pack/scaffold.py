"""A new pack from the template beside this module: its files, with the name put in place of ``__pack__``."""

import builtins
import keyword
import re
import sys
from pathlib import Path

import click

from mesh.pack import pack_names

TEMPLATE = Path(__file__).with_name("template")
_NAME = re.compile(r"[a-z][a-z0-9]{1,19}")
_MARK = "__pack__"
_ENDING = ".tmpl"
_OURS = ("mesh", "agents", "console", "packs", "benchmarks", "tests", "workmesh", "intake", "operator")


def scaffold(name: str, folder: Path) -> list[str]:
    """Write a pack of this name; the names of its files. Raises ``click.UsageError`` for a name that cannot be one."""
    require_name(name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise click.UsageError(f"{folder} is there already: name a folder that is not, or is empty")
    written: list[str] = []
    for source in sorted(TEMPLATE.rglob(f"*{_ENDING}")):
        relative = source.relative_to(TEMPLATE).as_posix().removesuffix(_ENDING).replace(_MARK, name)
        target = folder / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(source.read_text(encoding="utf-8").replace(_MARK, name), encoding="utf-8")
        written.append(relative)
    return written


def require_name(name: str) -> None:
    """Raises ``click.UsageError`` with the rule that a name breaks."""
    if not _NAME.fullmatch(name):
        raise click.UsageError(
            f"{name!r} cannot name a pack: 2 to 20 characters, lower-case letters and digits, a letter first; "
            "it is the first part of subjects, event types, tools, and a Python package"
        )
    if keyword.iskeyword(name) or keyword.issoftkeyword(name) or hasattr(builtins, name):
        raise click.UsageError(f"{name!r} cannot name a pack: it is a word of Python")
    if name in sys.stdlib_module_names or name in _OURS:
        raise click.UsageError(f"{name!r} cannot name a pack: a module of this name is there already")
    if name in pack_names():
        raise click.UsageError(f"{name!r} cannot name a pack: one of this name is installed")
