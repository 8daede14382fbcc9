"""The console process: ``workmesh run console``. It decides nothing, and has nobody's private key but its own."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import structlog

from console.web.app import application
from console.web.desk import Desk, templates
from console.web.live import Live
from console.web.places import tokens_path, url_path
from console.web.security import Doorkeeper
from console.web.sessions import Sessions
from console.web.task_index import TaskIndex
from console.web.tokens import Tokens
from mesh.control import controlling
from mesh.errors import SettingsError
from mesh.halts import HALT
from mesh.lifetime import background
from mesh.ports import free_port
from mesh.process import Process, opened
from mesh.projection import following
from mesh.serving import Tls, serving
from mesh.settings import ConsoleSettings, Settings
from mesh.site import CONSOLE

log = structlog.get_logger(__name__)


async def run(settings: Settings) -> None:
    """Serve the console until asked to stop."""
    if settings.console.port < 0:
        raise SettingsError("console.port is -1: set the port that the console is to be served on")
    async with opened(settings, CONSOLE) as process:
        desk = await _desk(process)
        app = application(desk, sorted(process.packs))
        url = await _serve(process.exit, app, settings.console, desk.live)
        shown = settings.console.origin or url
        url_path(settings).write_text(shown + "\n", encoding="utf-8")
        log.info("console_serves", url=shown)
        process.ready()
        await process.stopping.wait()


async def _desk(process: Process) -> Desk:
    settings, stack = process.settings, process.exit
    url_path(settings).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    live = Live(process.bus)
    await live.hear()
    await stack.enter_async_context(background(live.run(), "live"))
    index = TaskIndex(process.bus, process.folder / "tasks.db", live.tell)
    stack.callback(index.close)
    await stack.enter_async_context(following(index.projection))
    sessions = Sessions(process.folder / "sessions.db", settings.console.session_s)
    stack.callback(sessions.close)
    controls = await stack.enter_async_context(controlling(process.bus, settings.root_key(), HALT))
    controls.on_change(HALT, lambda _: live.tell(("governance",)))
    return Desk(
        settings=settings,
        bus=process.bus,
        committer=process.committer,
        journal=process.journal,
        controls=controls,
        trust=process.trust,
        doorkeeper=Doorkeeper(settings.console, sessions, Tokens(tokens_path(settings)), process.trust),
        index=index,
        live=live,
        templates=templates(),
    )


async def _serve(stack: AsyncExitStack, app: Callable[..., Any], settings: ConsoleSettings, live: Live) -> str:
    """Serve on the port of the settings. One that is taken is another site's: a free one does as well."""
    tls = Tls(settings.tls_certificate, settings.tls_key) if settings.tls_certificate else None
    try:
        return await stack.enter_async_context(
            serving(app, host=settings.host, port=settings.port, tls=tls, closing=live.close)
        )
    except SettingsError as error:
        port = free_port()
        log.warning("console_port_taken", reason=str(error), instead=port)
        return await stack.enter_async_context(serving(app, host=settings.host, port=port, tls=tls, closing=live.close))
