"""Archives of files: gzip and zip, opened in memory within bounds; what is in them is never opened again.

The rule: a few bytes never become many without end: the size is counted while it grows, not taken from the archive.
"""

import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator

from agents.intake.errors import UnreadableError

UNPACKED_MAX = 64 * 1024 * 1024
_FILES_MAX = 100
_CHUNK = 256 * 1024
_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"


def unpacked(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The files in an archive with their names, or the data itself with none. Raises ``UnreadableError``."""
    if data.startswith(_GZIP):
        yield "", _flat(_gunzipped(data), "gzip")
    elif data.startswith(_ZIP):
        yield from _members(data)
    else:
        yield "", data


def _gunzipped(data: bytes) -> bytes:
    """All members of a gzip file (RFC 1952)."""
    found = bytearray()
    members = 0
    while data:
        members += 1
        if members > _FILES_MAX:
            raise UnreadableError(f"more than {_FILES_MAX} members in one gzip file")
        reader = zlib.decompressobj(wbits=31)
        try:
            found += reader.decompress(data, UNPACKED_MAX + 1 - len(found))
        except zlib.error as error:
            raise UnreadableError(f"not gzip: {error}") from error
        if len(found) > UNPACKED_MAX:
            raise UnreadableError(f"unpacks to more than {UNPACKED_MAX} bytes")
        if not reader.eof:
            raise UnreadableError("the gzip file ends too early")
        data = reader.unused_data
    return bytes(found)


def _members(data: bytes) -> Iterator[tuple[str, bytes]]:
    left = UNPACKED_MAX
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            files = [member for member in archive.infolist() if not member.is_dir()]
            if len(files) > _FILES_MAX:
                raise UnreadableError(f"{len(files)} files in one archive; {_FILES_MAX} are read")
            for member in files:
                if member.flag_bits & 1:
                    raise UnreadableError("is encrypted", member.filename[:200])
                content = _read(archive, member, left)
                left -= len(content)
                yield member.filename[:200], _flat(content, member.filename[:200])
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, OSError, RuntimeError) as error:
        raise UnreadableError(f"not a zip file: {error}") from error


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo, left: int) -> bytes:
    found = bytearray()
    with archive.open(member) as file:
        while chunk := file.read(_CHUNK):
            found += chunk
            if len(found) > left:
                raise UnreadableError(f"unpacks to more than {UNPACKED_MAX} bytes", member.filename[:200])
    return bytes(found)


def _flat(data: bytes, name: str) -> bytes:
    if data.startswith((_GZIP, _ZIP)):
        raise UnreadableError("an archive in an archive is not opened", name)
    return data
