"""The wheel, which the image and the offline install are made of, has everything that the source has."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_wheel_has_every_file_of_the_packages(tmp_path: Path) -> None:
    about = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    folders = [each.removesuffix("*") for each in about["tool"]["setuptools"]["packages"]["find"]["include"]]
    source = tmp_path / "source"
    for folder in folders:
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, source)
    there = {
        str(path.relative_to(source)) for folder in folders for path in (source / folder).rglob("*") if path.is_file()
    }
    argv = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*argv, "--wheel-dir", tmp_path / "w", source], capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    (wheel,) = (tmp_path / "w").glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        assert there - set(file.namelist()) == set(), "add their ending to package-data in pyproject.toml"
