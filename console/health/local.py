"""What can be looked at without a bus: this host's files, disk and versions."""

import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from console.health.judging import Check, fail, ok, warn
from mesh.errors import WorkmeshError
from mesh.identity import Identity
from mesh.pack import load_packs
from mesh.settings import Settings

_OTHERS = 0o077
_FREE_WARN, _FREE_FAIL = 0.10, 0.03


def look(settings: Settings) -> Iterator[Check]:
    """Everything on this host."""
    yield _versions()
    yield _packs(settings)
    yield _state_dir(settings.state_dir)
    yield _keys(settings)
    yield _disk(settings.state_dir)


def _versions() -> Check:
    try:
        names = ("workmesh", "nats-py", "msgspec", "cedarpy")
        found = ", ".join(f"{name} {version(name)}" for name in names)
    except PackageNotFoundError as error:
        return fail("versions", f"{error.name} is not installed", "install Workmesh by its locked requirements")
    return ok("versions", f"Python {sys.version.split()[0]}, {found}")


def _packs(settings: Settings) -> Check:
    try:
        packs = load_packs(settings.pack_names)
        for name, pack in packs.items():
            pack.read_options(settings.packs.get(name))
    except WorkmeshError as error:
        return fail("packs", str(error), "`workmesh pack check NAME` says where")
    return ok("packs", ", ".join(sorted(packs)) or "none")


def _state_dir(folder: Path) -> Check:
    if not folder.is_dir():
        return fail("state", f"{folder.resolve()} is not there", "start `workmesh up`, or set WORKMESH_STATE_DIR")
    if folder.stat().st_mode & _OTHERS:
        return fail("state", f"others can read {folder.resolve()}", f"chmod 700 {folder}")
    return ok("state", str(folder.resolve()))


def _keys(settings: Settings) -> Check:
    folder = settings.state_dir / "keys"
    try:
        settings.root_key()
        found = [Identity.load(path).name for path in sorted(folder.glob("*.nk"))]
    except WorkmeshError as error:
        return fail("keys", str(error), "the message says how")
    if not found:
        return fail("keys", f"no keys in {folder}", "`workmesh up` makes them, or bring those of this host's roles")
    if folder.stat().st_mode & _OTHERS:
        return fail("keys", f"others can read {folder}", f"chmod 700 {folder}")
    if (folder / "admin.nk").exists() and settings.bus.url:
        return warn(
            "keys", f"the root key is in {folder}", "with a bus of your own, keep it off this host but for changes"
        )
    return ok("keys", ", ".join(found))


def _disk(folder: Path) -> Check:
    there = next(each for each in (folder.resolve(), *folder.resolve().parents) if each.exists())
    usage = shutil.disk_usage(there)
    free = usage.free / usage.total
    said = f"{usage.free / 1e9:.1f} of {usage.total / 1e9:.1f} GB are free at {there}"
    if free < _FREE_WARN:
        mend = "free some, or move the state folder: what is not on disk is not acknowledged"
        return fail("disk", said, mend) if free < _FREE_FAIL else warn("disk", said, mend)
    return ok("disk", said)
