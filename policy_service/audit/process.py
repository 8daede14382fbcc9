"""The auditor process: the log beside the journal, under a key that no other process has."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import structlog

from mesh import audit
from mesh.errors import BusUnavailableError
from mesh.lifetime import background
from mesh.process import opened
from mesh.settings import Settings
from policy_service.audit.auditor import Auditor
from policy_service.audit.files import CheckpointFile, LogFile
from policy_service.audit.measuring import measuring
from policy_service.audit.rechecking import rechecking

log = structlog.get_logger(__name__)


async def run(settings: Settings) -> None:
    """Audit until asked to stop; then take in and sign what is there."""
    async with opened(settings, audit.ROLE) as process:
        chosen = settings.audit.checkpoint_file
        checkpoints = CheckpointFile(Path(chosen) if chosen else settings.state_dir / "audit" / "checkpoints")
        logfile = LogFile(process.folder / "log")
        process.exit.callback(logfile.close)
        auditor = Auditor(
            process.bus,
            process.committer,
            process.trust,
            process.identity,
            logfile,
            checkpoints,
            ages=settings.bus.journal_max_age_s > 0,
        )
        await auditor.open()
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(
                background(rechecking(auditor, process.bus, settings.audit.recheck_s), "rechecking")
            )
            lag = measuring(process.bus, lambda: auditor.signed_size)
            await stack.enter_async_context(background(lag, "measuring"))
            await stack.enter_async_context(background(auditor.run(settings.audit.checkpoint_s), "auditor"))
            process.ready()
            await process.stopping.wait()
        try:
            async with asyncio.timeout(settings.runtime.drain_timeout_s):
                await auditor.finish()
        except (TimeoutError, BusUnavailableError) as error:
            log.warning("audit_stopped_unsigned", size=logfile.size, error=str(error))
