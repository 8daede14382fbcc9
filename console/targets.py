"""Where the metrics of each live process are, as the file that Prometheus reads its targets from.

The rule: the file is replaced whole, and only when it differs; what Prometheus reads is never half a list.
Format: https://prometheus.io/docs/prometheus/latest/configuration/configuration/#file_sd_config
"""

import asyncio
import os
import signal
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

import click
import msgspec
import structlog

from mesh.bus import Bus
from mesh.cli import config_option, run_async
from mesh.errors import BusUnavailableError, TerminalError
from mesh.lifetime import background
from mesh.notify import notify
from mesh.operator import operator_bus
from mesh.registry import Entry, entries

log = structlog.get_logger(__name__)

_EVERY_S = 1.0


def targets(found: Iterable[Entry]) -> bytes:
    """The list of targets as JSON, each with its role and instance; processes without metrics are no targets."""
    groups = [
        {"targets": [urlsplit(entry.metrics).netloc], "labels": {"role": entry.role, "instance": entry.instance}}
        for entry in found
        if entry.metrics
    ]
    return msgspec.json.format(msgspec.json.encode(groups), indent=2) + b"\n"


@click.command("targets")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write it to this file.")
@click.option("--follow", is_flag=True, help="Keep the file as the processes are, until Ctrl-C.")
@config_option
def command(out: Path | None, follow: bool, config: Path | None) -> None:
    """Tell where the metrics of each live process are, as a list for Prometheus's file_sd_configs.

    `workmesh up` keeps such a list by itself. A process in a container says its address by metrics.address.
    """
    if follow and out is None:
        raise click.UsageError("--follow keeps a file: say --out FILE")
    found = run_async(_tell(config, out if follow else None))
    if out is None:
        click.echo(found, nl=False)
    else:
        replace_file(out, found)


async def _tell(config: Path | None, kept: Path | None) -> bytes:
    async with operator_bus(config) as (_, bus):
        if kept is None:
            return targets(await entries(bus))
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        async with background(keep_targets(bus, kept), "targets"):
            notify("READY=1")
            await stopping.wait()
    return targets(())


async def keep_targets(bus: Bus, path: Path, every_s: float = _EVERY_S) -> None:
    """Keep the file as the registry is, until cancelled, then without targets; while the bus is away it stands."""
    written = b""
    try:
        while True:
            try:
                fresh = targets(await entries(bus))
            except (BusUnavailableError, TerminalError) as error:
                log.debug("targets_not_known", error=str(error))
            else:
                if fresh != written:
                    replace_file(path, fresh)
                    written = fresh
            await asyncio.sleep(every_s)
    finally:
        replace_file(path, targets(()))


def replace_file(path: Path, data: bytes) -> None:
    """Put a file in the place of another in one step."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.new")
    part.write_bytes(data)
    os.replace(part, path)
