"""What a backup's folder holds: a signed manifest, and one file a stream; read and checked offline.

The rule: a file that is not as the manifest says is never given to a server.
"""

import hashlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import msgspec

from mesh import files
from mesh.errors import SignatureError, WorkmeshError
from mesh.identity import Identity
from mesh.record import Json
from mesh.records import Struct
from mesh.signing import BACKUP_TYPE, open_envelope, sign

FORMAT = "workmesh-backup/1"
MANIFEST = "manifest.json"
KEYS = "keys"
_READ = 1024 * 1024


class Floor(Struct, frozen=True, kw_only=True):
    """Up to this sequence a stage had acknowledged everything before its stream's snapshot began."""

    stage: str
    seq: int


class StreamFile(Struct, frozen=True, kw_only=True):
    """One stream: its snapshot's file, and what the server said of it.

    ``digest`` is over all of its messages (``content.digest_of``), or "" where some may go by age or by law.
    """

    name: str
    file: str
    bytes: int
    sha256: str
    config: Json
    state: Json
    messages: int
    first_seq: int
    last_seq: int
    floors: tuple[Floor, ...] = ()
    digest: str = ""


class Manifest(Struct, frozen=True, kw_only=True):
    """The backup: of which site (its root key), when, by which versions, and its streams in the order of restoring."""

    format: str
    trust_root: str
    taken_at: datetime
    workmesh: str
    server: str
    streams: tuple[StreamFile, ...]
    keys: bool = False

    @property
    def bytes(self) -> int:
        """The size of all files."""
        return sum(each.bytes for each in self.streams)


def write_manifest(folder: Path, manifest: Manifest, admin: Identity) -> None:
    """Sign it, and put it there as the last file: a folder without it is no backup."""
    files.put(folder / MANIFEST, bytes(sign(manifest, BACKUP_TYPE, admin)))


def read_manifest(folder: Path, root: str = "") -> Manifest:
    """The manifest, signed by ``root``, or by whom it names as its root when that is "".

    Raises ``WorkmeshError`` for a folder that holds no whole backup, or one of another site.
    """
    try:
        data = (folder / MANIFEST).read_bytes()
    except OSError as error:
        raise WorkmeshError(f"{folder} holds no whole backup: {folder / MANIFEST}: {error.strerror}") from error
    try:
        manifest, key = open_envelope(data, BACKUP_TYPE, Manifest, lambda key: None)
    except (SignatureError, msgspec.DecodeError) as error:
        raise WorkmeshError(f"{folder / MANIFEST} is not to be trusted: {error}") from error
    if manifest.format != FORMAT:
        raise WorkmeshError(f"{folder} is a {manifest.format}: this version reads {FORMAT}")
    if key != manifest.trust_root:
        raise WorkmeshError(f"{folder / MANIFEST} is signed by {key}, not by the root of its site")
    if root and key != root:
        raise WorkmeshError(f"{folder} is a backup of the site with the root key {key}, not {root}")
    return manifest


def check_files(folder: Path, manifest: Manifest) -> Iterator[StreamFile]:
    """Each file as it is found to be whole; raises ``WorkmeshError`` at the first that is not."""
    for each in manifest.streams:
        path = folder / each.file
        if Path(each.file).name != each.file:
            raise WorkmeshError(f"the manifest names a file outside of {folder}: {each.file}")
        try:
            found = sha256_of(path)
        except OSError as error:
            raise WorkmeshError(f"{path}: {error.strerror}: this backup is not whole") from error
        if found != each.sha256:
            raise WorkmeshError(f"{path} has changed since the backup: SHA-256 {found}, not {each.sha256}")
        yield each


def sha256_of(path: Path) -> str:
    """Of a file, in hex."""
    hashed = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_READ):
            hashed.update(block)
    return hashed.hexdigest()
