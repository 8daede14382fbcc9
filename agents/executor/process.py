"""The executor process."""

import fcntl
import os
import platform
import secrets

from agents.executor.handler import Executor
from agents.executor.permit import CAUSES
from agents.executor.reconciling import Reconciler, sources_of
from mesh.activation import Activations
from mesh.control import controlling
from mesh.errors import SettingsError
from mesh.halts import HALT, halts_of
from mesh.lifetime import background
from mesh.notices import noticing
from mesh.process import Process, opened
from mesh.restored import RESTORED, Restored
from mesh.series import begin_effects, begin_refusals
from mesh.settings import Settings
from mesh.toolbox import Toolbox

_SNAPSHOT = "executor"


async def run(settings: Settings) -> None:
    """Carry out permitted plans until asked to stop."""
    async with opened(settings, "executor") as process:
        _claim_folder(process)
        systems = await process.connect_packs()
        toolboxes = {
            name: Toolbox({tool.name: tool for tool in pack.tools(process.options[name])}, systems[name])
            for name, pack in process.packs.items()
        }
        controls = await process.exit.enter_async_context(controlling(process.bus, settings.root_key(), HALT, RESTORED))
        executor = Executor(
            await _name(process),
            process.journal,
            process.checkpoint,
            process.trust,
            Activations(process.bus, process.trust),
            toolboxes,
            halts_of(controls),
            await process.exit.enter_async_context(noticing(settings)),
            Restored().follow(controls),
        )
        begin_refusals(CAUSES)
        for domain, toolbox in toolboxes.items():
            begin_effects(domain, toolbox.tools)
        sources = sources_of({name: pack.applied for name, pack in process.packs.items()}, systems)
        reconciler = Reconciler(process.bus, sources, process.folder / "applied.db")
        process.exit.callback(reconciler.close)
        async with background(reconciler.run(), "reconciler"):
            await process.run_stage(executor.act)


def _claim_folder(process: Process) -> None:
    """Two executors on one checkpoint would each take the other's silence for proof that nothing was sent."""
    descriptor = os.open(process.folder / "executor.lock", os.O_CREAT | os.O_RDWR, 0o600)
    process.exit.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SettingsError(
            f"another executor uses {process.folder}: give each copy its own role_instance (WORKMESH_ROLE_INSTANCE)"
        ) from None


async def _name(process: Process) -> str:
    """This executor's name, bound to its checkpoint: whoever has not that file does not know what was sent."""
    token = await process.checkpoint.load(_SNAPSHOT)
    if token is None:
        token = secrets.token_hex(6).encode()
        await process.checkpoint.save(_SNAPSHOT, token)
    return f"executor/{process.settings.role_instance or platform.node()}/{token.decode()}"
