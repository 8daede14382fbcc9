"""Files that are put in their place whole, for whoever reads sees the old content or the new; files of secrets."""

import os
import secrets
from pathlib import Path

from mesh.errors import SettingsError


def put(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write, sync and rename; the file has this mode from its first byte on. Its folder is there already."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            os.fchmod(file.fileno(), mode)  # the umask may have taken some away
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """The names in a folder are on disk when this returns."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_private(path: Path, setting: str) -> str:
    """The text of a file that ``setting`` names; raises ``SettingsError`` where others can read it, or nobody can."""
    try:
        if path.stat().st_mode & 0o077:
            raise SettingsError(f"{setting}: others can read {path}: chmod 600 {path}")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{setting}: cannot read {path}: {error.strerror}") from error
