"""Archives for tests: honest ones, and bombs."""

import gzip
import io
import zipfile
from collections.abc import Sequence


def zipped(files: Sequence[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip file of these."""
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w", method) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return found.getvalue()


def archives(plain: Sequence[bytes]) -> list[bytes]:
    """These files by gzip, in two members, and by zip with each method."""
    named = [(f"{number}.csv", data) for number, data in enumerate(plain)]
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    return [
        gzip.compress(plain[0], mtime=0),
        gzip.compress(plain[0], mtime=0) + gzip.compress(plain[0], mtime=0),
        *(zipped(named, method) for method in methods),
    ]
