"""The content demonstration: the CMS as a process of its own, the site as a git repository, and what both say."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2
import msgspec

from mesh.demo import Applied, Systems
from mesh.ports import free_port
from mesh.records import Context, Outcome
from mesh.supervisor import ChildSpec
from packs.content.cms.documents import Article, Entry
from packs.content.measures import measure
from packs.content.repository import Repository

_LIMIT_S = 30.0


class _Expected(msgspec.Struct):
    id: str
    slug: str = ""
    state: str = ""
    revisions: dict[str, int] = {}
    files: dict[str, str] = {}


class _Public(msgspec.Struct):
    state: str
    revisions: dict[str, int]


class _World(msgspec.Struct):
    """What is public: articles by slug, files by path."""

    articles: dict[str, _Public]
    files: dict[str, str]


class ContentDemo:
    """Runs the CMS on the given data, with an empty repository; the sample is the pack's own."""

    sample = Path(__file__).parent / "sample"
    roles = ("editor", "producer")

    def systems(self, data: Path, folder: Path, faults: Mapping[str, Any]) -> Systems:
        """The CMS on a free port of 127.0.0.1. ``faults`` are the CMS's own, for tests."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        port = free_port()
        argv = [sys.executable, "-m", "packs.content.cms", "--data", str(data.resolve())]
        argv += ["--db", str(folder / "cms.db"), "--port", str(port)]
        if faults:
            argv += ["--faults-json", msgspec.json.encode(faults).decode()]
        options = {"cms_url": f"http://127.0.0.1:{port}", "repository": str((folder / "site.git").resolve())}
        return Systems([ChildSpec("cms", tuple(argv), folder / "cms.log")], options)

    async def applied(self, options: Mapping[str, Any]) -> list[Applied]:
        """The CMS's log of changes, and the repository's log of commits."""
        found = [Applied(key, title) for key, title in await Repository(Path(options["repository"])).log()]
        after = 0
        while page := msgspec.json.decode(await _get(options, f"/changes?after={after}"), type=list[Entry]):
            found += [Applied(entry.key, entry.kind) for entry in page]
            after = page[-1].seq
        return found

    async def world(self, options: Mapping[str, Any]) -> msgspec.Raw:
        """What is public in the CMS, and every file of the repository."""
        articles = msgspec.json.decode(await _get(options, "/articles"), type=list[Article])
        public = {
            each.slug: _Public(each.release.state, dict(each.release.revisions)) for each in articles if each.release
        }
        files = await Repository(Path(options["repository"])).files()
        return msgspec.Raw(msgspec.json.encode(_World(public, files)))

    def differences(self, expected: Sequence[bytes], world: msgspec.Raw) -> list[str]:
        """Compare what is public with what must be: each file to the letter, and nothing beside."""
        lines = [msgspec.json.decode(raw, type=_Expected) for raw in expected]
        ours = msgspec.json.decode(world, type=_World)
        wanted = {line.slug: _Public(line.state, line.revisions) for line in lines if line.slug}
        files = {path: text for line in lines for path, text in line.files.items()}
        found = [
            f"{slug}: {ours.articles.get(slug)} is public, expected {wanted.get(slug)}"
            for slug in sorted(ours.articles.keys() | wanted.keys())
            if ours.articles.get(slug) != wanted.get(slug)
        ]
        return found + [
            f"{path}: {_place(ours.files.get(path), files.get(path))}"
            for path in sorted(ours.files.keys() | files.keys())
            if ours.files.get(path) != files.get(path)
        ]

    def measures(self, tasks: Sequence[tuple[Context, Outcome]]) -> Mapping[str, float]:
        """Velocity, revision rate, rework."""
        return msgspec.structs.asdict(measure(tasks))


def _place(ours: str | None, theirs: str | None) -> str:
    """Where two texts begin to differ."""
    if ours is None or theirs is None:
        return "there is none" if ours is None else "expected none"
    pairs = zip(ours.splitlines(), theirs.splitlines(), strict=False)
    line = next((pair for pair in pairs if pair[0] != pair[1]), ("", ""))
    return f"{line[0]!r}, expected {line[1]!r}"


async def _get(options: Mapping[str, Any], path: str) -> bytes:
    async with httpx2.AsyncClient(base_url=options["cms_url"], timeout=_LIMIT_S, trust_env=False) as client:
        return (await client.get(path)).raise_for_status().content


demo = ContentDemo()
