"""``workmesh up``: a whole site on one host, with an embedded NATS server, in the foreground."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec
import structlog
from rich.console import Console
from rich.live import Live
from rich.table import Table

from console.keywatch import watch_keys
from console.targets import keep_targets
from console.web.places import url_path
from mesh import logs
from mesh.cli import config_option, run_async
from mesh.demo import load_demo
from mesh.embedded import EmbeddedNats
from mesh.errors import BusUnavailableError, WorkmeshError
from mesh.identity import Identity
from mesh.lifetime import background
from mesh.operator import operating
from mesh.settings import MODEL_SECRETS, TRACE_SECRETS, Settings, load
from mesh.site import CONSOLE, INTAKE, MODEL, PROCESSES, TRACER, Site
from mesh.supervisor import ChildSpec, ChildState, Supervisor
from mesh.watch import watch

log = structlog.get_logger(__name__)

TARGETS = "prometheus.json"
_ROLES = (*PROCESSES, CONSOLE, TRACER)
_READY_S = 30.0
_USE_MODELS = "WORKMESH_MODELS__USE"
_STYLES = {ChildState.READY: "green", ChildState.FAILED: "bold red", ChildState.BACKING_OFF: "yellow"}


@dataclass(frozen=True, slots=True)
class Running:
    """A site that runs: its server, its processes, and how long it took to be ready."""

    site: Site
    server: EmbeddedNats | None
    supervisor: Supervisor
    url: str
    ready_in_s: float


@asynccontextmanager
async def running(
    settings: Settings,
    *,
    config: Path | None = None,
    env: Mapping[str, str] | None = None,
    extra: Sequence[ChildSpec] = (),
    roles: Sequence[str] | None = None,
    people: Mapping[Identity, Sequence[str]] | None = None,
    binary: Path | None = None,
    console: bool = False,
) -> AsyncIterator[Running]:
    """Start a site and wait until all its processes are ready; stop everything on leaving.

    ``env`` is added to the environment of the roles; ``extra`` processes are supervised beside them; ``people`` are
    enrolled with their roles; ``binary`` is the nats-server to run, if not the installed one; with ``console`` the web
    console runs too.
    """
    started = time.monotonic()
    env = {**(env or {}), **_models_known(settings, env or {})}
    if roles is None:
        wanted = {
            MODEL: env[_USE_MODELS] == "yes",
            INTAKE: settings.intake.is_on,
            CONSOLE: console,
            TRACER: settings.traces.is_on({**os.environ, **env}),
        }
        roles = [role for role in _ROLES if wanted.get(role, True)]
    site = Site(settings)
    async with AsyncExitStack() as stack:
        server = None
        if not settings.bus.url:
            server = await stack.enter_async_context(
                EmbeddedNats(
                    settings.state_dir / "nats",
                    site.users(),
                    max_file_store=settings.bus.max_file_store_bytes,
                    binary=binary,
                )
            )
        url = server.url if server else settings.bus.url
        await site.bootstrap(url, people or {})
        renewed = asyncio.Event()
        await stack.enter_async_context(background(_operate(settings, server, renewed), "operator"))
        trusted = [role for role in roles if not site.is_cut_off(role)]
        for role in set(roles) - set(trusted):
            log.error("role_not_started", role=role, reason=f"its key is revoked: `workmesh keys rotate {role}`")
        specs = [*extra, *(role_spec(settings, role, config, env) for role in trusted)]
        supervisor = await stack.enter_async_context(Supervisor(specs, settings.state_dir / "run"))
        if server is not None:
            keys = watch_keys(site, server, supervisor, renewed)
            await stack.enter_async_context(background(keys, "key-watch"))
        try:
            await supervisor.wait_ready(_READY_S)
        except TimeoutError as error:
            raise WorkmeshError(f"{error}: see the logs in {settings.state_dir / 'logs'}") from error
        yield Running(site, server, supervisor, url, time.monotonic() - started)


def _models_known(settings: Settings, env: Mapping[str, str]) -> dict[str, str]:
    """Tell every role whether models are asked: only one of them has the key that the others could tell it by."""
    return {_USE_MODELS: "yes" if settings.models.is_on({**os.environ, **env}) else "no"}


async def _operate(settings: Settings, server: EmbeddedNats | None, renewed: asyncio.Event) -> None:
    """Watch the embedded server's disk and tell where metrics are, as an operator; anew when that has a new key."""
    while True:
        renewed.clear()
        try:
            async with AsyncExitStack() as stack:
                bus = await stack.enter_async_context(operating(settings))
                if settings.metrics.port >= 0:
                    told = keep_targets(bus, settings.state_dir / "run" / TARGETS)
                    await stack.enter_async_context(background(told, "targets"))
                if server is not None:
                    await stack.enter_async_context(background(watch(server, bus), "disk-watch"))
                await renewed.wait()
        except BusUnavailableError as error:
            log.warning("disk_not_watched", reason=str(error))
            await asyncio.sleep(1.0)


def role_spec(settings: Settings, role: str, config: Path | None, env: Mapping[str, str]) -> ChildSpec:
    """How one role is started: the same command that a person would type."""
    folder = settings.state_dir / "logs"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    argv = [sys.executable, "-m", "console.main", "run", role]
    if config is not None:
        argv += ["--config", str(config.resolve())]
    if role != MODEL:
        env = {**env, **dict.fromkeys(MODEL_SECRETS, "")}
    if role != TRACER:
        env = {**env, **dict.fromkeys(TRACE_SECRETS, "")}
    port = settings.metrics.port
    if port > 0:
        env = {**env, "WORKMESH_METRICS__PORT": str(port + _ROLES.index(role))}
    own = {
        "WORKMESH_STATE_DIR": str(settings.state_dir.resolve()),
        "WORKMESH_ROLE_INSTANCE": f"{role}-1",
    }
    return ChildSpec(role, tuple(argv), folder / f"{role}.log", {**env, **own})


@click.command()
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where keys, bus and local state are kept. Default: the setting state_dir (./.workmesh).",
)
@click.option("--with", "packs", multiple=True, metavar="PACK", help="Also run PACK's sample systems (retail: a shop).")
@config_option
def up(state_dir: Path | None, packs: tuple[str, ...], config: Path | None) -> None:
    """Run a whole site here: embedded NATS and one process of each role. Ctrl-C stops it cleanly."""
    settings = load(config)
    if state_dir is not None:
        settings = with_state_dir(settings, state_dir)
    run_async(_up(settings, packs, config))


def with_state_dir(settings: Settings, folder: Path) -> Settings:
    """The same settings on another state folder."""
    return msgspec.structs.replace(settings, state_dir=folder)


def systems_env(pack: str, options: Mapping[str, Any]) -> dict[str, str]:
    """A pack's options as environment variables of the roles."""
    prefix = f"WORKMESH_PACKS__{pack.upper()}__"
    return {
        prefix + name.upper(): value if isinstance(value, str) else msgspec.json.encode(value).decode()
        for name, value in options.items()
    }


async def _up(settings: Settings, packs: Sequence[str], config: Path | None) -> None:
    logs.configure(settings.log, role="up", instance=settings.instance)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    env: dict[str, str] = {}
    extra: list[ChildSpec] = []
    for name in packs:
        shown = load_demo(name)
        systems = shown.systems(shown.sample, settings.state_dir / "systems" / name, {})
        env |= systems_env(name, systems.options)
        extra += systems.children
    with_console = settings.console.port >= 0
    async with running(settings, config=config, env=env, extra=extra, console=with_console) as site:
        console = Console(stderr=True)
        click.echo(f"workmesh is up in {site.ready_in_s:.1f} s: bus {site.url}, state {settings.state_dir.resolve()}")
        click.echo("In another terminal: workmesh publish FILE, tasks list, approvals list. Ctrl-C stops.")
        if with_console:
            address = url_path(settings).read_text(encoding="utf-8").strip()
            click.echo(f"The console is at {address}; to sign in: workmesh console token NAME")
        if settings.state_dir != Settings().state_dir:
            click.echo(f"there: export WORKMESH_STATE_DIR={settings.state_dir.resolve()}")
        if console.is_terminal:
            with Live(_table(site), console=console, refresh_per_second=2) as live:
                while not stopping.is_set():
                    live.update(_table(site))
                    await _pause(stopping)
        else:
            await stopping.wait()
        click.echo("stopping")
    click.echo("stopped")


async def _pause(stopping: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(0.5):
            await stopping.wait()
    except TimeoutError:
        return


def _table(site: Running) -> Table:
    table = Table("process", "state", "pid", "restarts", "log")
    if site.server is not None:
        table.add_row("nats-server", "[green]ready", str(site.server.pid), "", str(site.server.log_file))
    for name, child in site.supervisor.children.items():
        style = _STYLES.get(child.state, "white")
        table.add_row(name, f"[{style}]{child.state}", str(child.pid), str(child.restarts), str(child.spec.log_file))
    return table
