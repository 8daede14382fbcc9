"""A reader of one page: follows its examples in order, in a folder of its own, and sees what the page says.

The rule: everything that a reader starts ends with it.
"""

import difflib
import doctest
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from tests.docs.pages import ROOT, Block, Command, Example, commands, read_examples

# Commands that only read are typed again until the page's answer comes: what they tell of is on its way.
READING = (
    "workmesh tasks list",
    "workmesh trace",
    "workmesh approvals list",
    "workmesh approvals show",
    "workmesh quarantine list",
    "workmesh memory",
    "workmesh keys list",
    "workmesh policy list",
    "workmesh policy explain",
    "workmesh audit status",
    "workmesh autonomy list",
    "workmesh learn list",
    "workmesh learn stats",
    "workmesh learn show",
    "workmesh status",
    "workmesh doctor",
    "python -m deploy.grafana.asking",
)
INSTALL = "pip install --editable "
_PATIENCE_S = 30.0
_COMMAND_S = 100.0
_STOP_S = 30.0

_same = doctest.OutputChecker().check_output


class Reader:
    """A context manager: follow examples inside it.

    ``env`` is added to the environment; ``replaced`` puts other words in the place of some that commands have and say
    (a free port for the one on the page).
    """

    def __init__(
        self, page: Path, *, env: Mapping[str, str] | None = None, replaced: Mapping[str, str] | None = None
    ) -> None:
        self.page = page
        self.examples = read_examples(page)
        self.said = ""
        self._own = env or {}
        self._replaced = replaced or {}
        self._followed = 0
        self._stack = ExitStack()
        self._site: subprocess.Popen[str] | None = None
        self._python: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        # The system's own temporary folder: the path of a socket in it must stay under 108 bytes.
        name = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="wm-docs-", ignore_cleanup_errors=True))
        self.folder = Path(name)
        for shown in ("packs", "deploy"):
            (self.folder / shown).symlink_to(ROOT / shown)
        kept = {key: value for key, value in os.environ.items() if not key.startswith("WORKMESH_")}
        self.env = kept | {
            "HOME": name,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": name,
            "COLUMNS": "100",
            "WORKMESH_STATE_DIR": str(self.folder / ".workmesh"),
            "WORKMESH_CONSOLE__PORT": "-1",  # it has tests of its own
            "WORKMESH_MEMORY__EMBEDDER": "none",  # most of a second a site; the model has tests of its own
            **self._own,
        }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def follow(self, number: int) -> None:
        """Do what example ``number`` says, after all before it."""
        for example in self.examples[self._followed : number]:
            self._followed = example.number
            for block in example.blocks:
                self._do(example, block)

    def _do(self, example: Example, block: Block) -> None:
        place = f"{self.page.name}:{block.line} (example {example.number}: {example.title})"
        match block.kind:
            case "file":
                self._write(block)
            case "site":
                self._start_site(block.text.split(), place)
            case "python":
                self._run_python(block, place)
            case "console":
                for command in commands(block):
                    self._type(command, place)

    def _write(self, block: Block) -> None:
        path = self.folder / block.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
        if path.name == "pyproject.toml":
            install(path)

    def _type(self, command: Command, place: str) -> None:
        if command.text.startswith(INSTALL):
            self._install(self.folder / command.text.removeprefix(INSTALL).strip())
            return
        end = time.monotonic() + _PATIENCE_S
        text, expected = self._mine(command.text), self._mine(command.expected)
        again = text.startswith(READING)
        while True:
            done = self._run(text)
            if done.returncode == 0 and is_same(expected, done.stdout):
                return
            if not again or time.monotonic() > end:
                break
        wrong = f"{place}: exit status {done.returncode} of: {text}\n"
        raise AssertionError(wrong + difference(expected, done.stdout))

    def _run(self, text: str) -> subprocess.CompletedProcess[str]:
        shell = subprocess.Popen(
            ["bash", "-c", text],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        if text.endswith("&"):
            self._stack.callback(end_session, shell.pid)
        self.said, _ = shell.communicate(timeout=_COMMAND_S)
        return subprocess.CompletedProcess(text, shell.returncode, self.said)

    def _mine(self, text: str) -> str:
        for word, other in self._replaced.items():
            text = text.replace(word, other)
        return text

    def _install(self, folder: Path) -> None:
        """What ``pip install --editable`` does for a distribution that a command made."""
        install(folder / "pyproject.toml")
        self.env["PYTHONPATH"] += f"{os.pathsep}{folder}"

    def _run_python(self, block: Block, place: str) -> None:
        python = self._python = self._python or self._start_python()
        assert python.stdin is not None
        assert python.stdout is not None
        request = {"code": block.text, "line": block.line, "page": str(self.page)}
        python.stdin.write(json.dumps(request) + "\n")
        python.stdin.flush()
        answer = python.stdout.readline()
        if not answer:
            raise AssertionError(f"{place}: the code failed\n{(self.folder / 'python.err').read_text()}")
        printed = json.loads(answer)
        if not is_same(block.expected or "", printed):
            raise AssertionError(f"{place}: the code printed something else\n{difference(block.expected, printed)}")

    def _start_python(self) -> subprocess.Popen[str]:
        script = Path(__file__).with_name("interpreter.py")
        return self._start([sys.executable, "-W", "error", str(script)], "python.err", stdin=subprocess.PIPE)

    def _start_site(self, args: list[str], place: str) -> None:
        if self._site is not None:
            stop(self._site)
            self._site = None
        if args == ["stop"]:
            return
        command = [str(Path(sys.executable).parent / "workmesh"), "up", *args]
        site = self._site = self._start([*command, "--state-dir", self.env["WORKMESH_STATE_DIR"]], "up.err")
        assert site.stdout is not None
        first = site.stdout.readline()
        if not first.startswith("workmesh is up"):
            raise AssertionError(f"{place}: no site: {first}{(self.folder / 'up.err').read_text()[-4000:]}")

    def _start(self, command: list[str], errors: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
        stderr: IO[bytes] = self._stack.enter_context((self.folder / errors).open("wb"))
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.env,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        self._stack.callback(stop, process)
        return process


def install(pyproject: Path) -> None:
    """What ``pip install --editable .`` would tell importlib of the entry points of this file."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    info = pyproject.parent / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
        for group, points in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(groups))


def stop(process: subprocess.Popen[str]) -> None:
    """End a process that was started here: politely, then for certain."""
    if process.stdin is not None:
        process.stdin.close()
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def end_session(leader: int) -> None:
    """End whatever still runs of a session that was started here."""
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGTERM)


def is_same(expected: str, got: str) -> bool:
    """Whether this is what the page shows; ``...`` stands for anything, and the page may say nothing."""
    return not expected.strip() or _same(_trimmed(expected), _trimmed(got), doctest.ELLIPSIS)


def difference(expected: str | None, got: str) -> str:
    """The page against what came, line by line."""
    pairs = ((expected or "").splitlines(), got.splitlines())
    return "\n".join(difflib.unified_diff(*pairs, "the page", "what came", lineterm="", n=50))


def _trimmed(text: str) -> str:
    return "".join(f"{line.rstrip()}\n" for line in text.strip("\n").splitlines())
