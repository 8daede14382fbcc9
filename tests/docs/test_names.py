"""What is published names no path and no tool of the machines that it was made on."""

import subprocess

from tests.docs.pages import ROOT

# In parts, so that this file is none of those that it looks for.
FORBIDDEN = tuple(
    "".join(parts) for parts in (("/wo", "rk/"), ("/fa", "rm"), ("fa", "rm-"), (".lib", "rary"), ("tmp/st", "udio"))
)


def test_no_file_names_the_machine_that_it_was_made_on() -> None:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = []
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        if not path.is_file():
            continue
        text = path.read_bytes().decode("utf-8", "replace")
        found += [f"{name}: {each}" for each in FORBIDDEN if each in text or each in name]
    assert not found
