"""The whole product on the sample: tasks a second, and what each process costs at rest and after the work."""

from dataclasses import dataclass
from pathlib import Path

from console.demo.driver import DemoPlan, run_demo
from console.demo.report import report
from console.publish import read_lines
from console.up import Running, running, with_state_dir
from mesh.demo import load_demo
from mesh.settings import load


@dataclass(frozen=True, slots=True)
class Rest:
    """A site at rest: seconds until all its processes were ready, and the memory of each in MB (resident set)."""

    ready_in_s: float
    rss_mb: dict[str, float]


async def at_rest(folder: Path) -> Rest:
    """Start a site and look at it."""
    settings = with_state_dir(load(None, {}), folder)
    async with running(settings) as site:
        return Rest(site.ready_in_s, rss_mb(site))


async def on_sample(folder: Path) -> dict[str, int | float]:
    """The retail sample through a whole site; the demonstration's own summary, which also verifies."""
    demo = load_demo("retail")
    lines = read_lines((demo.sample / "events.jsonl").read_bytes())
    plan = DemoPlan("retail", demo, demo.sample, lines, approve=True)
    run = await run_demo(plan, folder, _nothing)
    return report(run, demo.sample / "expected.jsonl").summary


def rss_mb(site: Running) -> dict[str, float]:
    """Resident memory of each process of a site, in MB of 10^6 bytes."""
    pids = {name: child.pid for name, child in site.supervisor.children.items()}
    if site.server is not None:
        pids["nats-server"] = site.server.pid
    return {name: round(_rss(pid) / 1000, 1) for name, pid in pids.items()}


def _rss(pid: int) -> int:
    """VmRSS of /proc/<pid>/status, in kB."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def _nothing(settled: int, total: int, site: Running) -> None:
    return
