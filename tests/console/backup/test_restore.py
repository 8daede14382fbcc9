"""A backup of a running site, restored into an empty one while its target lived on: nothing lost, nothing repeated."""

import itertools
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from console.backup import manifest, restoring, taking
from console.backup.commands import end
from mesh import subjects
from mesh.clock import now
from mesh.control import Controls
from mesh.errors import SignatureError, WorkmeshError
from mesh.halts import HALT, Halt
from mesh.journal import Journal, committing
from mesh.records import OutcomeStatus, ResultStatus, Word
from mesh.restored import read_restored
from mesh.settings import Settings
from mesh.site import Site
from tests.ledger_pack.running import installed, until
from tests.ledger_pack.world import BUS, World, world_in

pytestmark = [pytest.mark.crash, pytest.mark.timeout(180)]

KINDS = ("post", "transfer", "wire")
STAGES = ("perception", "planner", "policy", "memory")


def unseen(name: str, size: int) -> None:
    """Nobody looks at the progress."""


@asynccontextmanager
async def restored_world(first: World, backup: Path) -> AsyncIterator[World]:
    """The site of the backup in a folder of its own, with the first one's ledger; nothing but the bus runs."""
    folder = first.folder / "second"
    settings = Settings(state_dir=folder / "state", bus=BUS)
    made = manifest.read_manifest(backup, first.site.admin.public_key)
    restoring.prepare_keys(settings, backup, made, None)
    await restoring.restore(settings, backup, made, unseen)
    env = {**first.env, "WORKMESH_STATE_DIR": str(folder / "state")}
    with installed():
        site = Site(settings)
    world = World(folder, site, first.people, first.port, env, numbers=itertools.count(100))
    async with world.servers:
        await world.start_server()
        await world.bootstrap()  # as `workmesh up` does
        async with world.connected("operator") as world.bus, committing(world.bus) as world.committer:
            world.journal = Journal(world.bus, world.committer)
            yield world


async def backup_of(world: World, folder: Path) -> manifest.Manifest:
    async with world.connected("admin") as bus:
        return await taking.take(bus, world.site, folder, with_keys=True, seen=unseen)


async def resume(world: World) -> None:
    act = Halt(person="olga", at=now(), halted=False)
    await Controls(world.bus, world.site.admin.public_key, HALT).put(world.committer, HALT, act, world.people["olga"])


async def test_what_happened_after_the_backup_does_not_happen_again(tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    async with world_in(tmp_path / "first", *STAGES) as first:
        async with first.role("executor"):
            before = await first.publish("before")
            assert (await first.outcome(before)).status is OutcomeStatus.COMPLETED
        tasks = {kind: await first.publish(f"open-{kind}", kind=kind) for kind in KINDS}
        for task in tasks.values():
            await first.record("decision", task)
        waiting = await first.publish("large", amount=20_000)
        await first.waits(waiting)
        broken = await first.publish_bytes(b"no event")
        await first.quarantined("perception", "", broken)
        made = await backup_of(first, backup)
        assert {each.name for each in made.streams} == set(taking.ORDER)
        async with first.role("executor"):  # what no backup knows of
            for task in tasks.values():
                assert (await first.outcome(task)).status is OutcomeStatus.COMPLETED
        done = first.applied()
        assert len(done) == 4

        shutil.rmtree(first.folder / "state" / "keys")  # they are in the backup
        async with restored_world(first, backup) as second:
            async with second.roles(*STAGES, "executor"):
                standing = await read_restored(second.bus, second.site.admin.public_key)
                assert standing is not None
                assert standing.backup_at == made.taken_at
                assert waiting in await second.waiting()
                await second.settled("planner")
                assert first.applied() == done  # paused
                await resume(second)
                assert (await second.outcome(tasks["post"])).status is OutcomeStatus.COMPLETED
                assert (await second.outcome(tasks["transfer"])).status is OutcomeStatus.COMPLETED
                assert (await second.result(tasks["transfer"])).recovered == "verified"
                doubt = await second.result(tasks["wire"])
                assert doubt.status is ResultStatus.IN_DOUBT
                assert "restored" in doubt.error
                await second.waits(tasks["wire"])
                await second.say(tasks["wire"], Word.HAPPENED)
                assert (await second.outcome(tasks["wire"])).status is OutcomeStatus.COMPLETED
                assert first.applied() == done

                fresh = await second.publish("fresh", kind="transfer")  # the target does not know it: it is called
                assert (await second.outcome(fresh)).status is OutcomeStatus.COMPLETED
                assert len(first.applied(fresh)) == 1
                with pytest.raises(SignatureError, match="may not end it"):
                    await end(second.bus, second.committer, second.site.admin.public_key, second.people["vera"])
                await end(second.bus, second.committer, second.site.admin.public_key, second.people["olga"])
                assert await read_restored(second.bus, second.site.admin.public_key) is None
                wired = await second.publish("wired", kind="wire")  # and nobody is asked any more
                assert (await second.outcome(wired)).status is OutcomeStatus.COMPLETED


async def test_a_backup_taken_under_load_restores_to_the_same_outcomes(tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    async with world_in(tmp_path / "first", *STAGES, "executor") as first:
        tasks = [await first.publish(f"load-{n}", kind=KINDS[n % 2], entity=f"e{n % 7}") for n in range(60)]
        made = await backup_of(first, backup)
        events = next(each for each in made.streams if each.name == subjects.EVENTS)
        journal = next(each for each in made.streams if each.name == subjects.JOURNAL)
        assert events.messages == 60
        assert all(floor.seq <= journal.last_seq for floor in journal.floors)
        for task in tasks:
            assert (await first.outcome(task)).status is OutcomeStatus.COMPLETED
        done = first.applied()
        assert len(done) == 60
        async with restored_world(first, backup) as second, second.roles(*STAGES, "executor"):
            await resume(second)
            for task in tasks:
                assert (await second.outcome(task)).status is OutcomeStatus.COMPLETED
            await until(lambda: first.applied() == done)


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[tuple[World, Path]]:
    """A site without processes, and its backup."""
    async with world_in(tmp_path / "first") as world:
        await world.publish("only")
        await backup_of(world, tmp_path / "backup")
        yield world, tmp_path / "backup"


async def test_what_is_not_whole_is_not_restored(small: tuple[World, Path], tmp_path: Path) -> None:
    world, backup = small
    root = world.site.admin.public_key
    made = manifest.read_manifest(backup, root)
    assert [each.name for each in manifest.check_files(backup, made)] == list(taking.ORDER)
    assert all(path.stat().st_mode & 0o077 == 0 for path in (backup, *backup.rglob("*")))
    with pytest.raises(WorkmeshError, match="not empty"):
        await backup_of(world, backup)
    with pytest.raises(WorkmeshError, match="with the root key"):
        manifest.read_manifest(backup, world.people["olga"].public_key)

    settings = Settings(state_dir=tmp_path / "other", bus=BUS)
    with pytest.raises(WorkmeshError, match="--keys"):
        restoring.prepare_keys(settings, backup, msgspec.structs.replace(made, keys=False), None)
    Site(settings)  # another site's keys
    with pytest.raises(WorkmeshError, match="holds the keys of the site"):
        restoring.prepare_keys(settings, backup, made, None)
    with pytest.raises(WorkmeshError, match="holds a bus already"):
        await restoring.restore(world.site.settings, backup, made, unseen)

    part = backup / "EVENTS.tar.s2"
    whole = part.read_bytes()
    part.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(WorkmeshError, match="has changed since the backup"):
        list(manifest.check_files(backup, made))
    part.unlink()
    with pytest.raises(WorkmeshError, match="not whole"):
        list(manifest.check_files(backup, made))
    signed = (backup / "manifest.json").read_bytes()
    (backup / "manifest.json").write_bytes(signed.replace(b'"sig":"', b'"sig":"AA', 1))
    with pytest.raises(WorkmeshError, match="not to be trusted"):
        manifest.read_manifest(backup, root)
    (backup / "manifest.json").unlink()
    with pytest.raises(WorkmeshError, match="no whole backup"):
        manifest.read_manifest(backup, root)
