"""The published site: a bare git repository of Markdown, one commit an effect.

Git (``packs.content.git``) is loaded when it is first needed: every process of a site loads every pack.
"""

import asyncio
import importlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Protocol

import msgspec

_GIT = "packs.content.git"


class Committed(msgspec.Struct, frozen=True, kw_only=True):
    """A commit; ``replayed`` says that the key had one before."""

    commit: str
    replayed: bool = False


class _Git(Protocol):
    def read(self, paths: list[str]) -> dict[str, tuple[str, str]]: ...

    def find(self, key: str) -> Committed | None: ...

    def commit(
        self, key: str, call_by: float, message: str, files: Mapping[str, str | None], expect: Mapping[str, str]
    ) -> Committed: ...

    def revert(self, key: str, call_by: float, undone: str) -> Committed: ...

    def log(self) -> list[tuple[str, str]]: ...

    def since(self, commit: str) -> tuple[str, list[tuple[str, str]]]: ...

    def files(self) -> dict[str, str]: ...


class Repository:
    """The repository in a folder, made when it is first written to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def _git(self) -> _Git:
        found: _Git = importlib.import_module(_GIT).GitRepository(self.folder)
        return found

    async def read(self, paths: list[str]) -> dict[str, tuple[str, str]]:
        """The blob and text of each path; both empty where there is no file."""
        return await asyncio.to_thread(self._git.read, paths)

    async def find(self, key: str) -> Committed | None:
        """The commit with this key in its trailer."""
        return await asyncio.to_thread(self._git.find, key)

    async def commit(
        self, key: str, call_by: float, message: str, files: Mapping[str, str | None], expect: Mapping[str, str]
    ) -> Committed:
        """Write files (``None`` removes one) in one commit, where the blobs are those expected ("" for none)."""
        return await asyncio.to_thread(self._git.commit, key, call_by, message, files, expect)

    async def revert(self, key: str, call_by: float, undone: str) -> Committed:
        """Bring back what stood before the commit with the key ``undone``, unless it has changed since."""
        return await asyncio.to_thread(self._git.revert, key, call_by, undone)

    async def log(self) -> list[tuple[str, str]]:
        """Key and first line of every commit that has a key, oldest first; a key that occurs twice is there twice."""
        return await asyncio.to_thread(self._git.log)

    async def since(self, commit: str) -> tuple[str, list[tuple[str, str]]]:
        """The newest commit, and as ``log`` those that came since this one ("": all); nothing where nothing is yet."""
        if not self.folder.exists():
            return commit, []
        return await asyncio.to_thread(self._git.since, commit)

    async def files(self) -> dict[str, str]:
        """Every file."""
        return await asyncio.to_thread(self._git.files)
