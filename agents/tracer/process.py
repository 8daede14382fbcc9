"""The tracer process: ``workmesh run tracer``."""

import os

import structlog

from agents.tracer.collector import collector
from agents.tracer.exporter import Exporter
from agents.tracer.held import Held
from agents.tracer.target import target_of
from mesh.lifetime import background
from mesh.process import opened
from mesh.settings import Settings
from mesh.site import TRACER

log = structlog.get_logger(__name__)


async def run(settings: Settings) -> None:
    """Send spans until asked to stop; what is not sent then is sent by the next life."""
    traces = settings.traces
    target = target_of(traces, os.environ)
    async with opened(settings, TRACER) as process:
        sink = await process.exit.enter_async_context(collector(target, traces.timeout_s))
        log.info(
            "traces_go_to", url=target.url, service=target.naming.name or f"{traces.service}-*", share=traces.share
        )
        exporter = Exporter(process.bus, process.checkpoint, Held(process.bus), sink, target.naming, traces)
        async with background(exporter.run(), "exporter"):
            process.ready()
            await process.stopping.wait()
