"""Writes the tables of docs/security.md from the attacks: ``python -m tests.redteam.page``."""

import importlib
from pathlib import Path

from tests.redteam import catalogue

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "security.md"


def written(page: str) -> str:
    """The page with its tables as the attacks say."""
    for path in sorted(HERE.glob("test_*.py")):
        importlib.import_module(f"tests.redteam.{path.stem}")
    for name, lines in (("attacks", catalogue.rows()), ("coverage", catalogue.coverage())):
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
        before, _, rest = page.partition(begin)
        page = before + begin + "\n".join(lines) + "\n" + end + rest.partition(end)[2]
    return page


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
