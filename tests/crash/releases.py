"""Another release of the project: its packages copied into a folder and changed, and processes that run from there."""

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import distribution
from pathlib import Path

from benchmarks.chaos.site import Ground
from mesh.supervisor import ChildSpec

ROOT = Path(__file__).parents[2]
PACKAGES = ("mesh", "agents", "memory_service", "policy_service", "console", "packs", "benchmarks")


def another(folder: Path, version: str, changes: Mapping[str, tuple[str, str]]) -> Path:
    """Make one in a folder: of this version, with a piece of text replaced in each of some files."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name, (old, new) in changes.items():
        text = (folder / name).read_text("utf-8")
        assert text.count(old) == 1, f"{name} has {old!r} {text.count(old)} times"
        (folder / name).write_text(text.replace(old, new), encoding="utf-8")
    about = folder / f"workmesh-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: workmesh\nVersion: {version}\n", encoding="ascii")
    points = distribution("workmesh").read_text("entry_points.txt")
    assert points is not None
    (about / "entry_points.txt").write_text(points, encoding="utf-8")
    return folder


def of_release(spec: ChildSpec, release: Path) -> ChildSpec:
    """The same process from another release: ``-P`` keeps the folder that the tests run in out of its path."""
    assert spec.argv[:2] == (sys.executable, "-m")
    path = os.pathsep.join([str(release), spec.env["PYTHONPATH"]])
    return replace(spec, argv=(sys.executable, "-P", *spec.argv[1:]), env={**spec.env, "PYTHONPATH": path})


async def install(ground: Ground, role: str, release: Path | None, first: Mapping[str, ChildSpec]) -> None:
    """Restart a role's process from a release, or from the one that it began with; return when it is ready."""
    ground.children[role].spec = of_release(first[role], release) if release else first[role]
    await ground.renew([role])
