"""The sources of the settings, each with its mapping compiled and the reader of what comes by it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import structlog

from agents.intake.door import Source
from agents.intake.kinds import READERS
from agents.intake.mapping import SourceMapping, load_mapping
from mesh.errors import SettingsError
from mesh.pack import Pack
from mesh.settings import IntakeSettings
from mesh.sources import Imap, Maildir, SourceSettings, Webhook

log = structlog.get_logger(__name__)


class Configured(Mapping[str, Source]):
    """The sources by name. A mapping file that is mended counts at once; one that is spoilt leaves the last in force.

    Raises ``SettingsError`` at the start, naming the source and what is wrong with it.
    """

    def __init__(self, intake: IntakeSettings, packs: Mapping[str, Pack], options: Mapping[str, Any]) -> None:
        self._settings = intake.sources
        self._tools = {tool.name: tool for name, pack in packs.items() for tool in pack.tools(options[name])}
        self._types = [kind.name for pack in packs.values() for kind in pack.events]
        self._paths = {name: mapping_path(setting.mapping, packs) for name, setting in intake.sources.items()}
        self._stamps = {name: _stamp(path) for name, path in self._paths.items()}
        self._sources = {name: self._load(name) for name in self._settings}

    def __getitem__(self, name: str) -> Source:
        stamp = _stamp(self._paths[name])
        if stamp != self._stamps[name]:
            self._stamps[name] = stamp
            try:
                self._sources[name] = self._load(name)
                log.info("mapping_renewed", source=name, path=str(self._paths[name]))
            except SettingsError as error:
                log.error("mapping_not_renewed", source=name, reason=str(error))
        return self._sources[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)

    def _load(self, name: str) -> Source:
        setting = self._settings[name]
        mapping = load_mapping(self._paths[name], self._tools, self._types)
        _require_fitting(name, setting, mapping)
        return Source(name, mapping, READERS[mapping.reads](setting))


def mapping_path(mapping: str, packs: Mapping[str, Pack]) -> Path:
    """The file of ``<pack>/<name>``, or the path itself; raises ``SettingsError`` when the pack has no such mapping."""
    if mapping.endswith(".yaml"):
        return Path(mapping)
    name, _, file = mapping.partition("/")
    pack = packs.get(name)
    if pack is None or pack.sources is None:
        raise SettingsError(f"mapping {mapping}: pack {name} is not installed, or brings no mappings")
    path = pack.sources / f"{file}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(found.stem for found in pack.sources.glob("*.yaml")))
        raise SettingsError(f"mapping {mapping}: pack {name} has none of this name: there are {known or 'none'}")
    return path


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        stat = path.stat()
    except OSError:
        return 0, 0, 0
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _require_fitting(name: str, setting: SourceSettings, mapping: SourceMapping) -> None:
    by_mail = isinstance(setting, Maildir | Imap)
    if by_mail != (mapping.reads == "mail") and not isinstance(setting, Webhook):
        raise SettingsError(
            f"intake.sources.{name}: {mapping.name} reads {mapping.reads}, which does not come that way"
        )
    if isinstance(setting, Webhook) and mapping.signature != "none" and not setting.secrets:
        raise SettingsError(f"intake.sources.{name}: {mapping.name} checks signatures: set secrets, the path of a file")
    if not isinstance(setting, Webhook) and mapping.signature != "none":
        raise SettingsError(f"intake.sources.{name}: {mapping.name} is for webhooks: it checks signatures")
