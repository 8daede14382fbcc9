"""``workmesh models scripted``: a model server whose answers are written down, to run by hand."""

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import click

from mesh.cli import run_async
from mesh.errors import SettingsError
from mesh.scripted.provider import Terms
from mesh.scripted.recording import recording
from mesh.scripted.server import scripted_model


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--port", type=click.IntRange(0, 65_535), default=0, help="Default: a free one.")
@click.option("--record", metavar="URL", default="", help="Ask there what no file answers, and write it down.")
@click.option("--batch-s", type=click.FloatRange(min=0), default=5.0, show_default=True, help="Seconds a batch takes.")
def scripted(files: tuple[Path, ...], port: int, record: str, batch_s: float) -> None:
    """Serve the conversations in FILES as a model would, until interrupted.

    With --record, the last of FILES is the one that is written to; the caller's key is passed on and not kept.
    """
    if not files:
        raise click.UsageError("name at least one file")
    run_async(_serve(files, port, record, batch_s))


async def _serve(files: tuple[Path, ...], port: int, record: str, batch_s: float) -> None:
    there = [path for path in files if path.exists() or not record or path != files[-1]]
    over, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, over.set)
    async with AsyncExitStack() as stack:
        recorder = await stack.enter_async_context(recording(record, files[-1])) if record else None
        try:
            server = await stack.enter_async_context(
                scripted_model(there, port=port, terms=Terms(batch_s=batch_s), recorder=recorder)
            )
        except OSError as error:
            raise SettingsError(f"port {port} of 127.0.0.1 cannot be used: {error.strerror}") from error
        click.echo(f"ANTHROPIC_BASE_URL={server.url}")
        await over.wait()
        billed = server.billed
        tokens = sum(call.tokens_in + call.tokens_cached + call.tokens_written for call in billed)
        click.echo(f"{len(server.calls)} requests, {len(billed)} billed: {tokens} tokens in", err=True)
