"""The published site: one commit a key, nothing written over, whoever else writes."""

import asyncio
import os
import time
from pathlib import Path

import pytest
from dulwich.objects import Commit, ObjectID
from dulwich.porcelain import fsck
from dulwich.repo import Repo

from mesh.errors import NotSentError, ToolRefusedError
from packs.content.git import BRANCH
from packs.content.repository import Repository

EN, DE = "content/en/lamp.md", "content/de/lamp.md"


def soon() -> float:
    return time.time() + 60


async def test_a_key_has_one_commit_however_often_it_is_asked_for(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "site.git")
    assert (await repository.find("k1"), await repository.files()) == (None, {})
    first = await repository.commit("k1", soon(), "Publish lamp", {EN: "one\n", DE: "eins\n"}, {EN: "", DE: ""})
    again = await Repository(tmp_path / "site.git").commit("k1", soon(), "Publish lamp", {EN: "two\n"}, {EN: ""})
    assert (first.replayed, again.replayed, first.commit) == (False, True, again.commit)
    assert await repository.find("k1") == again
    assert await repository.log() == [("k1", "Publish lamp")]
    assert await repository.files() == {EN: "one\n", DE: "eins\n"}


async def test_what_somebody_else_has_changed_is_not_written_over(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "site.git")
    await repository.commit("k1", soon(), "m", {EN: "one\n"}, {EN: ""})
    blob = (await repository.read([EN]))[EN][0]
    await repository.commit("k2", soon(), "m", {EN: "two\n"}, {EN: blob})
    for expected in (blob, ""):
        with pytest.raises(ToolRefusedError, match=EN) as refused:
            await repository.commit("k3", soon(), "m", {EN: "three\n"}, {EN: expected})
        assert refused.value.code == "conflict"
    assert (await repository.find("k3"), await repository.files()) == (None, {EN: "two\n"})


async def test_a_commit_is_taken_back_unless_it_was_changed_since(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "site.git")
    await repository.commit("k1", soon(), "m", {EN: "one\n"}, {EN: ""})
    blob = (await repository.read([EN]))[EN][0]
    await repository.commit("k2", soon(), "m", {EN: "two\n", DE: "zwei\n"}, {EN: blob, DE: ""})
    await repository.revert("k2~undo", soon(), "k2")
    assert await repository.files() == {EN: "one\n"}
    assert (await repository.revert("k2~undo", soon(), "k2")).replayed
    await repository.commit("k4", soon(), "m", {EN: "four\n"}, {})
    with pytest.raises(ToolRefusedError, match="not"):
        await repository.revert("k1~undo", soon(), "k1")
    with pytest.raises(ToolRefusedError, match="no commit has the key"):
        await repository.revert("k9~undo", soon(), "k9")


@pytest.mark.timeout(60)
async def test_many_who_commit_at_once_lose_nothing(tmp_path: Path) -> None:
    writers = [Repository(tmp_path / "site.git") for _ in range(4)]

    async def write(writer: Repository, n: int) -> None:
        await writer.commit(f"k{n}", soon(), f"m{n}", {f"content/en/p{n}.md": f"{n}\n"}, {f"content/en/p{n}.md": ""})

    await asyncio.gather(*(write(writer, n) for n in range(12) for writer in writers))
    assert sorted(key for key, _ in await writers[0].log()) == sorted(f"k{n}" for n in range(12))
    assert len(await writers[1].files()) == 12
    assert list(fsck(str(tmp_path / "site.git"))) == []


async def test_one_file_has_one_winner(tmp_path: Path) -> None:
    writers = [Repository(tmp_path / "site.git") for _ in range(6)]
    tries = (writer.commit(f"k{n}", soon(), "m", {EN: f"{n}\n"}, {EN: ""}) for n, writer in enumerate(writers))
    said = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(each, ToolRefusedError) for each in said) == 5
    assert len(await writers[0].log()) == 1


@pytest.mark.parametrize(
    "path",
    [
        "../x.md",
        "content/en/../../x.md",
        "/etc/passwd",
        "content/en/.git/x.md",
        "content/en/a b.md",
        ".git/hooks/x",
        "a",
    ],
)
async def test_only_pages_are_written(tmp_path: Path, path: str) -> None:
    with pytest.raises(ToolRefusedError, match="no path of a page"):
        await Repository(tmp_path / "site.git").commit("k1", soon(), "m", {path: "x"}, {})
    assert not (tmp_path / "site.git").exists()


async def test_a_late_call_changes_nothing(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "site.git")
    with pytest.raises(NotSentError, match="is over"):
        await repository.commit("k1", time.time() - 1, "m", {EN: "one\n"}, {EN: ""})
    assert await repository.log() == []


async def test_the_lock_of_a_killed_process_is_removed_once_it_is_old(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "site.git")
    await repository.commit("k1", soon(), "m", {EN: "one\n"}, {EN: ""})
    lock = tmp_path / "site.git" / "refs" / "heads" / "main.lock"
    lock.touch()
    with pytest.raises(NotSentError, match="locked"):
        await repository.commit("k2", soon(), "m", {DE: "zwei\n"}, {DE: ""})
    assert lock.exists()
    os.utime(lock, (1, 1))
    with pytest.raises(NotSentError, match="locked"):
        await repository.commit("k2", soon(), "m", {DE: "zwei\n"}, {DE: ""})
    await repository.commit("k2", soon(), "m", {DE: "zwei\n"}, {DE: ""})
    assert len(await repository.log()) == 2


async def test_half_a_repository_of_a_killed_process_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "site.git.new" / "objects").mkdir(parents=True)
    repository = Repository(tmp_path / "site.git")
    await repository.commit("k1", soon(), "m", {EN: "one\n"}, {EN: ""})
    with Repo(str(tmp_path / "site.git")) as repo:
        assert repo.refs.read_ref(b"HEAD") == b"ref: refs/heads/main"  # type: ignore[arg-type]


async def test_commits_are_told_once_also_when_people_merge(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "site.git")
    assert await repository.since("") == ("", [])
    first = await repository.commit("k1", soon(), "one", {EN: "one\n"}, {EN: ""})
    assert await repository.since("") == (first.commit, [("k1", "one")])
    assert await repository.since(first.commit) == (first.commit, [])
    second = await repository.commit("k2", soon(), "two", {DE: "zwei\n"}, {DE: ""})
    with Repo(str(tmp_path / "site.git")) as repo:
        # A person's branch from the first commit, merged: with a commit under a key that is there already.
        branch = _person(repo, [first.commit], b"again\n\nWorkmesh-Key: k1\n")
        merged = _person(repo, [second.commit, branch], b"Merge\n")
        repo.refs[BRANCH] = ObjectID(merged.encode())
    head, told = await repository.since(first.commit)
    assert (head, sorted(told)) == (merged, [("k1", "again"), ("k2", "two")])
    assert await repository.since(second.commit) == (merged, [("k1", "again")])
    assert await repository.since(merged) == (merged, [])


def _person(repo: Repo, parents: list[str], message: bytes) -> str:
    """A commit that somebody makes by hand."""
    tree = repo[repo.refs[BRANCH]]
    assert isinstance(tree, Commit)
    made = Commit()
    made.tree, made.parents = tree.tree, [ObjectID(parent.encode()) for parent in parents]
    made.author = made.committer = b"Ann <ann@example>"
    made.author_time = made.commit_time = int(time.time())
    made.author_timezone = made.commit_timezone = 0
    made.message = message
    repo.object_store.add_object(made)
    return made.id.decode()
