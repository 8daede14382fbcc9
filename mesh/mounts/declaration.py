"""What a pack declares of a mounted tool: what the target itself says of its tools is never trusted.

The rule: a declaration says all that the runtime must know of an effect before the target is asked anything.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import yaml

from mesh.canonical import digest_bytes
from mesh.errors import SettingsError
from mesh.tools import Recovery, RetryPolicy, Risk, Tool

S = TypeVar("S", bound=msgspec.Struct)

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_.-]{0,99}\Z")]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=3600)]


_VALUE = re.compile(r"(\$?)\$\{([A-Za-z_]\w*)\}")  # ${name}; $${name} is ${name} as it stands


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a mount's file: unknown keys are refused."""


class Declaration(Part, frozen=True, kw_only=True):
    """One tool of a mount. ``tool`` is its name here; ``compensation`` names the tool that undoes it."""

    tool: Name
    description: str = ""
    read_only: bool = False
    recovery: Recovery = Recovery.MANUAL
    risk: Risk = Risk.MEDIUM
    compensation: str = ""
    timeout_s: Seconds = 5.0
    settle_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 0.25
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 8
    attempts: Annotated[int, msgspec.Meta(ge=1, le=10)] = 3
    cache_s: Annotated[float, msgspec.Meta(ge=0, le=86400)] = 0.0

    def make(self, target: str, **parts: Any) -> Tool:
        """The tool itself, with the parts that the mount adds: arguments, function, and what else it knows."""
        return Tool(
            name=self.tool,
            target=target,
            recovery=self.recovery,
            read_only=self.read_only,
            risk=self.risk,
            compensation=self.compensation,
            timeout_s=self.timeout_s,
            settle_s=self.settle_s,
            concurrency=self.concurrency,
            retry=RetryPolicy(attempts=self.attempts),
            cache_s=self.cache_s,
            **{"description": self.description, **parts},
        )


def read_file(path: Path, kind: type[S], values: Mapping[str, str]) -> S:
    """A mount's YAML file as its struct, each ``${name}`` in a text replaced; raises ``SettingsError``."""
    try:
        found = _filled(yaml.safe_load(path.read_bytes()), values)
        return msgspec.convert(found, kind)
    except OSError as error:
        raise SettingsError(f"the mount {path} cannot be read: {error.strerror}") from error
    except KeyError as error:
        raise SettingsError(f"the mount {path} needs a value for ${{{error.args[0]}}}") from error
    except (yaml.YAMLError, msgspec.ValidationError, ValueError) as error:
        raise SettingsError(f"the mount {path}: {error}") from error


def check_names(path: Path, declarations: tuple[Declaration, ...]) -> None:
    """Raises ``SettingsError`` when a name occurs twice, or a declaration contradicts itself."""
    names = [each.tool for each in declarations]
    for each in declarations:
        if names.count(each.tool) > 1:
            raise SettingsError(f"the mount {path} has more than one tool named {each.tool}")
        if each.compensation == each.tool:
            raise SettingsError(f"the mount {path}: {each.tool} cannot undo itself")
        if each.cache_s and not each.read_only:
            raise SettingsError(f"the mount {path}: {each.tool} has an effect, and its answers are never cached")


def source_of(path: Path) -> str:
    """How a mount's file is named in messages: its folder and name, which are the same everywhere."""
    return f"{path.parent.name}/{path.name}"


def document_digest(path: Path) -> str:
    """The digest of a file's bytes; raises ``SettingsError``."""
    try:
        return digest_bytes(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error


def _filled(value: Any, values: Mapping[str, str]) -> Any:
    match value:
        case str():
            return _VALUE.sub(lambda found: found[0][1:] if found[1] else values[found[2]], value)
        case list():
            return [_filled(item, values) for item in value]
        case dict():
            return {name: _filled(item, values) for name, item in value.items()}
        case _:
            return value
