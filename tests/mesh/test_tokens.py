"""Files of tokens, and files that are put in their place whole."""

import os
import stat
from pathlib import Path

import pytest

from mesh import files
from mesh.errors import SettingsError
from mesh.tokens import KnownToken, TokenFile, make


def test_a_token_is_found_by_itself_and_stands_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "new" / "tokens"
    file = TokenFile(path, KnownToken)
    assert file.current() == () and file.find("t_x") is None
    given, digest = make("t_")
    other, _ = make("t_")
    file.write([KnownToken(sha256=digest)])
    assert file.find(given) == KnownToken(sha256=digest) and file.find(other) is None
    assert given.encode() not in path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_what_another_process_wrote_is_seen(tmp_path: Path) -> None:
    mine, theirs = (TokenFile(tmp_path / "tokens", KnownToken) for _ in range(2))
    given, digest = make("t_")
    theirs.write([KnownToken(sha256=digest)])
    assert mine.find(given) is not None
    theirs.write([])
    assert mine.find(given) is None


def test_a_line_that_is_no_token_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text('{"sha256": "aa"}\n\n{"sha256": "bb", "more": 1}\n')
    with pytest.raises(SettingsError, match=r"tokens:3: .*`more`"):
        TokenFile(path, KnownToken).read()


def test_a_file_has_its_mode_whatever_the_umask_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    before = os.umask(0o077)
    try:
        files.put(path, b"one", 0o644)
        files.put(path, b"two", 0o644)
    finally:
        os.umask(before)
    assert path.read_bytes() == b"two" and stat.S_IMODE(path.stat().st_mode) == 0o644
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        files.put(tmp_path / "folder", b"three")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]
