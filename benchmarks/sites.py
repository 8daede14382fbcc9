"""Sites to measure: the product with the bench pack, each in a folder of its own."""

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench_pack.pack import INSTALLED
from benchmarks.load import Load, loading
from benchmarks.usage import Usage, usage
from console.up import Running, role_spec, running, with_state_dir
from mesh.settings import load
from mesh.site import ROLES
from mesh.supervisor import ChildSpec


@dataclass(frozen=True, slots=True)
class BenchSite:
    """A site under load. ``pids`` are those of its own processes: the roles and the server."""

    site: Running
    load: Load

    @property
    def pids(self) -> dict[str, int]:
        """By name, as they are now."""
        assert self.site.server is not None
        roles = {name: child.pid for name, child in self.site.supervisor.children.items()}
        return roles | {"nats-server": self.site.server.pid}

    def usage(self) -> dict[str, Usage]:
        """What its processes have cost so far."""
        return usage(self.pids)

    def journal_bytes(self) -> int:
        """Bytes of the journal's files."""
        store = self.site.site.folder / "nats" / "store"
        return sum(_size(Path(at) / name) for at, _, names in os.walk(store) if "/JOURNAL" in at for name in names)


def _size(path: Path) -> int:
    """Its bytes; 0 when the server has just removed it, as it does with the files of a batch."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@asynccontextmanager
async def bench_site(
    folder: Path, *, roles: Sequence[str] = ROLES, executors: int = 1, env: Mapping[str, str] | None = None
) -> AsyncIterator[BenchSite]:
    """A site with the bench pack, and a load on it. Further executors are processes ``executor-2`` and so on."""
    settings = with_state_dir(load(None, {}), folder)
    env = bench_env() | dict(env or {})
    more = [spec(folder, "executor", number) for number in range(2, executors + 1)]
    async with running(settings, env=env, extra=more, roles=roles) as site, loading(site.site, site.url) as found:
        yield BenchSite(site, found)


def spec(folder: Path, role: str, number: int = 1) -> ChildSpec:
    """One more process of a role for the site in this folder; its log goes to ``<role>-<number>.log``."""
    found = role_spec(with_state_dir(load(None, {}), folder), role, None, bench_env())
    name = f"{role}-{number}"
    log = found.log_file.with_name(f"{name}.log")
    return ChildSpec(name, found.argv, log, {**found.env, "WORKMESH_ROLE_INSTANCE": name})


def bench_env() -> dict[str, str]:
    """What makes the bench pack an installed one in a process."""
    path = [str(INSTALLED), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(path)}
