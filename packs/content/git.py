"""A bare git repository of Markdown, by dulwich: one commit an effect, its key in the commit's trailer.

The rule: the key is looked for and the branch moved under one lock, from the head that was looked at; so a key has one
commit, and a file that somebody else has changed is never overwritten.
"""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dulwich.errors import NotGitRepository
from dulwich.file import FileLocked
from dulwich.object_store import commit_tree_changes, tree_lookup_path
from dulwich.objects import Blob, Commit, ObjectID, Tree
from dulwich.refs import Ref
from dulwich.repo import Repo

from mesh.clock import unix
from mesh.errors import NotSentError, ToolRefusedError, UncertainError
from packs.content.repository import Committed

BRANCH = Ref(b"refs/heads/main")
KEY = "Workmesh-Key"
WHO = b"Workmesh <workmesh@localhost>"
FILE_MODE = 0o100644
NONE = ObjectID(b"0" * 40)

_PATH = re.compile(r"^content/[a-z]{2}(-[A-Z]{2})?/[a-z0-9]+(-[a-z0-9]+)*\.md\Z")
_TRAILER = re.compile(rf"^{KEY}: ([A-Za-z0-9_.~\-]{{1,200}})$", re.MULTILINE)
# A branch is moved by one rename: a lock that lies longer is one of a process that was killed.
_STALE_LOCK_S = 10.0


class GitRepository:
    """The bare repository in a folder, made when it is first written to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[str, str] = {}
        self._seen: ObjectID = NONE

    def read(self, paths: list[str]) -> dict[str, tuple[str, str]]:
        """The blob and text of each path; both empty where there is no file."""
        with self._open() as repo:
            tree = _tree(repo, _head(repo)) if repo else None
            return {path: _blob(repo, tree, path) if repo and tree else ("", "") for path in paths}

    def find(self, key: str) -> Committed | None:
        """The commit with this key in its trailer."""
        with self._open() as repo:
            found = self._keys(repo, _head(repo)).get(key) if repo else None
            return Committed(commit=found, replayed=True) if found else None

    def commit(
        self, key: str, call_by: float, message: str, files: Mapping[str, str | None], expect: Mapping[str, str]
    ) -> Committed:
        """Write files in one commit, as ``packs.content.repository`` says it."""
        if bad := [path for path in files if not _PATH.match(path)]:
            raise ToolRefusedError("bad_path", f"{bad[0]!r} is no path of a page")
        with self._writing() as repo:
            head = _head(repo)
            if found := self._keys(repo, head).get(key):
                return Committed(commit=found, replayed=True)
            tree = _tree(repo, head)
            for path, blob in expect.items():
                stands = _blob(repo, tree, path)[0] if tree else ""
                if stands != blob:
                    raise ToolRefusedError("conflict", f"{path} is {stands or 'not there'}, not {blob or 'absent'}")
            if unix() >= call_by:
                raise NotSentError(f"the time to commit {key} is over")
            return Committed(commit=self._write(repo, head, tree, key, message, files))

    def _write(
        self,
        repo: Repo,
        head: ObjectID | None,
        tree: Tree | None,
        key: str,
        message: str,
        files: Mapping[str, str | None],
    ) -> str:
        changes: list[tuple[bytes, int | None, ObjectID | None]] = []
        for path, text in sorted(files.items()):
            if text is None:
                changes.append((path.encode(), None, None))
                continue
            blob = Blob.from_string(text.encode())
            repo.object_store.add_object(blob)
            changes.append((path.encode(), FILE_MODE, blob.id))
        base = tree or Tree()
        if tree is None:
            repo.object_store.add_object(base)
        made = Commit()
        made.tree = commit_tree_changes(repo.object_store, base, changes)
        made.parents = [head] if head else []
        made.author = made.committer = WHO
        made.author_time = made.commit_time = int(unix())
        made.author_timezone = made.commit_timezone = 0
        made.encoding = b"UTF-8"
        made.message = f"{message}\n\n{KEY}: {key}\n".encode()
        repo.object_store.add_object(made)
        if not repo.refs.set_if_equals(BRANCH, head or NONE, made.id):
            raise NotSentError(f"the branch moved while {key} was written")
        _fsync_folder(Path(repo.path) / "refs" / "heads")
        return made.id.decode()

    def revert(self, key: str, call_by: float, undone: str) -> Committed:
        """Bring back what stood before the commit with the key ``undone``, unless it has changed since."""
        with self._open() as repo:
            found = self._keys(repo, _head(repo)).get(undone) if repo else None
            if repo is None or found is None:
                raise ToolRefusedError("unknown_key", f"no commit has the key {undone}")
            made = repo[ObjectID(found.encode())]
            parent = made.parents[0] if isinstance(made, Commit) and made.parents else None
            now, before = _texts(repo, ObjectID(found.encode())), _texts(repo, parent)
        paths = {path for path in now.keys() | before.keys() if now.get(path) != before.get(path)}
        blobs = {path: Blob.from_string(now[path].encode()).id.decode() if path in now else "" for path in paths}
        return self.commit(key, call_by, f"Revert {undone}", {path: before.get(path) for path in paths}, blobs)

    def log(self) -> list[tuple[str, str]]:
        """Key and first line of every commit that has a key, oldest first."""
        with self._open() as repo:
            head = _head(repo) if repo else None
            found = []
            for made in _walk(repo, head) if repo and head else ():
                text = made.message.decode("utf-8", "replace")
                found += [(key, text.splitlines()[0]) for key in _TRAILER.findall(text)]
            return found[::-1]

    def since(self, commit: str) -> tuple[str, list[tuple[str, str]]]:
        """The newest commit, and key and first line of those that are not behind this one, oldest first."""
        with self._open() as repo:
            head = _head(repo) if repo else None
            if repo is None or head is None or head.decode() == commit:
                return commit, []
            known = [ObjectID(commit.encode())] if commit else []
            found = []
            for entry in repo.get_walker(include=[head], exclude=known, reverse=True):
                text = entry.commit.message.decode("utf-8", "replace")
                found += [(key, text.splitlines()[0]) for key in _TRAILER.findall(text)]
            return head.decode(), found

    def files(self) -> dict[str, str]:
        """Every file."""
        with self._open() as repo:
            return _texts(repo, _head(repo)) if repo else {}

    def _keys(self, repo: Repo, head: ObjectID | None) -> Mapping[str, str]:
        """The commit of each key, as ``git log`` has it; only what is new since the last look is read."""
        if head is None or head == self._seen:
            return self._known
        found: dict[str, str] = {}
        for made in _walk(repo, head, self._seen):
            if made.id == self._seen:
                found = {**self._known, **found}
                continue
            found.update(dict.fromkeys(_TRAILER.findall(made.message.decode("utf-8", "replace")), made.id.decode()))
        self._known, self._seen = found, head
        return found

    @contextmanager
    def _open(self) -> Iterator[Repo | None]:
        """The repository, or ``None`` while nothing was published."""
        try:
            repo = Repo(str(self.folder))
        except NotGitRepository:
            yield None
            return
        try:
            yield repo
        finally:
            repo.close()

    @contextmanager
    def _writing(self) -> Iterator[Repo]:
        """The repository under its lock; raises ``NotSentError`` or, past the commit, ``UncertainError``."""
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.folder.with_name(self.folder.name + ".lock"), os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as error:
            raise NotSentError(f"{self.folder} cannot be written: {error}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            with self._made() as repo:
                yield repo
        except FileLocked as error:
            _drop_stale(self.folder / "refs" / "heads" / "main.lock")
            raise NotSentError(f"{self.folder} is locked by somebody: {error}") from error
        except OSError as error:
            raise UncertainError(f"{self.folder} may or may not have the commit: {error}") from error
        finally:
            os.close(descriptor)

    @contextmanager
    def _made(self) -> Iterator[Repo]:
        """The repository to write to; a new one appears whole, so that no kill leaves half of it."""
        with self._open() as found:
            if found is not None:
                found.object_store.fsync_object_files = True
                yield found
                return
        fresh = self.folder.with_name(self.folder.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        Repo.init_bare(str(fresh), mkdir=True, default_branch=b"main").close()
        fresh.rename(self.folder)
        with self._made() as made:
            yield made


def _head(repo: Repo) -> ObjectID | None:
    try:
        return repo.refs[BRANCH]
    except KeyError:
        return None


def _tree(repo: Repo, head: ObjectID | None) -> Tree | None:
    made = repo[head] if head else None
    tree = repo[made.tree] if isinstance(made, Commit) else None
    return tree if isinstance(tree, Tree) else None


def _blob(repo: Repo, tree: Tree | None, path: str) -> tuple[str, str]:
    """Id and text of a file; both empty when it is not there."""
    try:
        _, name = tree_lookup_path(repo.__getitem__, tree.id, path.encode()) if tree else (0, None)
    except KeyError:
        return "", ""
    found = repo[name] if name else None
    return (found.id.decode(), found.data.decode("utf-8", "replace")) if isinstance(found, Blob) else ("", "")


def _walk(repo: Repo, head: ObjectID, until: bytes = NONE) -> Iterator[Commit]:
    """All commits from the newest, with several parents where people merged; none before ``until``."""
    left, seen = [head], {head}
    while left:
        made = repo[left.pop(0)]
        if not isinstance(made, Commit):
            continue
        yield made
        if made.id == until:
            continue
        new = [parent for parent in made.parents if parent not in seen]
        seen.update(new)
        left += new


def _texts(repo: Repo, head: ObjectID | None) -> dict[str, str]:
    tree = _tree(repo, head)
    if tree is None:
        return {}
    entries = repo.object_store.iter_tree_contents(tree.id)
    blobs = ((entry.path, repo[entry.sha]) for entry in entries if entry.path and entry.sha)
    return {path.decode(): blob.data.decode("utf-8", "replace") for path, blob in blobs if isinstance(blob, Blob)}


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _drop_stale(lock: Path) -> None:
    try:
        if unix() - lock.stat().st_mtime > _STALE_LOCK_S:
            lock.unlink()
    except FileNotFoundError:
        return
