"""The intake process: its HTTP server, its pollers, and what people release to it."""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import structlog

from agents.intake.arrival import Arrival, Marks
from agents.intake.configured import Configured
from agents.intake.door import ARRIVAL_HEADER, Door, Source, arrival_of
from agents.intake.errors import UnreadableError
from agents.intake.http import Hook, Reception
from agents.intake.marks import BucketMarks
from agents.intake.pollers import poll
from agents.intake.pressure import Pressure
from agents.intake.tokens import tokens_of
from mesh import subjects
from mesh.errors import SettingsError, TerminalError
from mesh.event_index import EventIndex
from mesh.lifetime import background
from mesh.originals import Originals
from mesh.process import Process, opened
from mesh.projection import following
from mesh.runtime import Handler, Outputs, Work
from mesh.serving import Tls, serving
from mesh.settings import IntakeSettings, Settings
from mesh.sources import Webhook
from mesh.toolbox import Toolbox

log = structlog.get_logger(__name__)


async def run(settings: Settings) -> None:
    """Take in what comes until asked to stop."""
    async with opened(settings, "intake") as process:
        intake = settings.intake
        systems = await process.connect_packs()
        sources = Configured(intake, process.packs, process.options)
        tools = {tool.name: tool for name, pack in process.packs.items() for tool in pack.tools(process.options[name])}
        toolbox = Toolbox(tools, {target: system for found in systems.values() for target, system in found.items()})
        index = EventIndex(process.bus, process.folder / "accepted.db", process.packs, hints=True)
        process.exit.callback(index.close)
        await index.forget_expired()
        await process.exit.enter_async_context(following(index.projection))
        originals = Originals(process.bus, process.committer)
        door = Door(process.committer, originals, index, process.packs, toolbox, sources)
        pressure = Pressure(
            process.bus, process.journal, in_flight_max=intake.in_flight_max, backlog_max=intake.backlog_max
        )
        await process.exit.enter_async_context(background(pressure.run(), "pressure"))
        if intake.port >= 0:
            await _receive(process, door, pressure, sources)
        marks = BucketMarks(process.bus)
        polling = _poll_all(intake, door, marks)
        await process.exit.enter_async_context(background(polling, "pollers"))
        await process.run_stage(_releasing(door, originals))


async def _receive(process: Process, door: Door, pressure: Pressure, sources: Mapping[str, Source]) -> None:
    intake = process.settings.intake
    hooks = {
        name: Hook(partial(_secrets, name, setting), setting.window_s)
        for name, setting in intake.sources.items()
        if isinstance(setting, Webhook)
    }
    reception = Reception(
        door, pressure, process.packs, intake, tokens_of(tokens_path(process.settings)), sources, hooks
    )
    tls = Tls(intake.tls_certificate, intake.tls_key, intake.tls_clients) if intake.tls_certificate else None
    if tls is None and intake.tls_clients:
        raise SettingsError("intake.tls_clients: give intake.tls_certificate and intake.tls_key too")
    url = await process.exit.enter_async_context(serving(reception.app(), host=intake.host, port=intake.port, tls=tls))
    (process.settings.state_dir / "intake").mkdir(mode=0o700, parents=True, exist_ok=True)
    (process.settings.state_dir / "intake" / "url").write_text(url + "\n", encoding="utf-8")
    log.info("intake_serves", url=url, webhooks=sorted(hooks))


def tokens_path(settings: Settings) -> Path:
    """Where the tokens of senders are, unless the settings say otherwise."""
    return Path(settings.intake.tokens) if settings.intake.tokens else settings.state_dir / "intake" / "tokens"


def _secrets(name: str, setting: Webhook) -> Sequence[str]:
    """The secrets of a webhook; raises ``TerminalError`` when their file cannot be read."""
    try:
        lines = Path(setting.secrets).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise TerminalError(f"the secrets of source {name} cannot be read: {error.strerror}") from error
    return [line.strip() for line in lines if line.strip()]


async def _poll_all(intake: IntakeSettings, door: Door, marks: Marks) -> None:
    async def take(arrival: Arrival) -> None:
        await door.take(arrival)

    async with asyncio.TaskGroup() as group:
        for name, setting in intake.sources.items():
            if not isinstance(setting, Webhook):
                group.create_task(poll(name, setting, take, marks), name=f"poll-{name}")
        await asyncio.Event().wait()


def _releasing(door: Door, originals: Originals) -> Handler:
    """The handler of what people release: it is taken as if it came now."""

    async def take(work: Work) -> Outputs:
        header = work.headers.get(ARRIVAL_HEADER, "")
        data = work.data
        if kept := work.headers.get(subjects.KEPT):
            data = await originals.read(kept)
        try:
            arrival = arrival_of(header, data)
        except UnreadableError as error:
            raise TerminalError(str(error)) from error
        await door.take(arrival)
        return ()

    return take
