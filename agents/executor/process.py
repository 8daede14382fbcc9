"""The executor process."""

import os
import platform

from agents.executor.handler import Executor
from mesh import faultpoints
from mesh.activation import Activations
from mesh.process import opened
from mesh.settings import Settings
from mesh.toolbox import Toolbox


async def run(settings: Settings) -> None:
    """Carry out permitted plans until asked to stop."""
    faultpoints.arm(os.environ.get(faultpoints.VARIABLE))
    async with opened(settings, "executor") as process:
        systems = await process.connect_packs()
        toolboxes = {
            name: Toolbox({tool.name: tool for tool in pack.tools(process.options[name])}, systems[name])
            for name, pack in process.packs.items()
        }
        executor = Executor(
            f"executor/{settings.role_instance or platform.node()}",
            process.journal,
            process.checkpoint,
            process.trust,
            Activations(process.bus, process.trust),
            toolboxes,
        )
        await process.run_stage(executor.act)
