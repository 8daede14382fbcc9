"""The registry's process: reads its arguments, opens the store, serves until SIGTERM or SIGINT, and exits 0."""

import argparse
import logging
import os
import signal
import socket
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import structlog
import uvicorn

from packs.outbreak.registry.app import RegistryApp
from packs.outbreak.registry.faults import FaultInjector, Faults
from packs.outbreak.registry.store import Store

DRAIN_SECONDS = 5

log = structlog.get_logger()


class Server(uvicorn.Server):
    """uvicorn that says when it listens, and takes SIGTERM as a wish to end well rather than to die of it."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening, then write the ready line to stdout."""
        await super().startup(sockets)
        host, port = (sockets or [])[0].getsockname()[:2]
        line = msgspec.json.encode({"event": "registry_ready", "url": f"http://{host}:{port}"})
        sys.stdout.write(line.decode() + "\n")
        sys.stdout.flush()
        tell_supervisor()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop serving on SIGTERM and SIGINT, without raising them again afterwards as uvicorn would."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def tell_supervisor() -> None:
    """Say by ``sd_notify(3)`` that the registry listens, if somebody asked to be told."""
    if address := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"READY=1", address.replace("@", "\0", 1))


def configure_logs() -> None:
    """Send structlog and the standard library's warnings and errors to stderr as JSON lines."""
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    render: list[structlog.typing.Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.JSONRenderer(),
    ]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=render, foreign_pre_chain=shared))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def arguments(argv: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="packs.outbreak.registry", description="The registry over HTTP.")
    parser.add_argument("--data", type=Path, required=True, help="folder of registry.json and history.csv")
    parser.add_argument("--db", type=Path, required=True, help="SQLite file; filled from the data if it is empty")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one, see the ready line")
    parser.add_argument("--faults-json", default="{}", help="faults in force, for tests")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """Serve until told to stop; 1 says that the registry could not start."""
    args = arguments(argv)
    configure_logs()
    try:
        faults = FaultInjector(msgspec.json.decode(args.faults_json, type=Faults))
        with Store(args.db) as store, socket.create_server((args.host, args.port), backlog=1024) as listener:
            store.load(args.data)
            app = RegistryApp(store, faults).application()
            config = uvicorn.Config(
                app, access_log=False, log_config=None, lifespan="on", timeout_graceful_shutdown=DRAIN_SECONDS
            )
            Server(config).run(sockets=[listener])
    except (OSError, ValueError, msgspec.MsgspecError, sqlite3.Error) as error:
        log.error("registry_not_started", error=repr(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
