"""Every numbered example of every page, done as a reader would do it, in order."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, read_examples
from tests.docs.reader import Reader

PAGES = (
    "README.md",
    *(
        f"docs/{name}.md"
        for name in (
            "concepts",
            "journal",
            "effects",
            "packs",
            "intake",
            "tools",
            "policies",
            "governance",
            "models",
            "learning",
            "memory",
            "nats",
            "operating",
            "backup",
            "console",
            "monitoring",
            "traces",
            "audit",
            "settings",
            "reliability",
        )
    ),
)
IN_OPS = {"docs/first-site.md"}
"""Pages that need more than Python: ``make test-ops`` follows them."""
EXAMPLES = [(page, example.number) for page in PAGES for example in read_examples(ROOT / page)]

pytestmark = [pytest.mark.timeout(120), pytest.mark.slow]


class Readers:
    """One reader at a time: the one of the page that is being followed."""

    def __init__(self) -> None:
        self._current: Reader | None = None

    def of(self, page: Path) -> Reader:
        """The reader of this page, at the place where it is."""
        if self._current is None or self._current.page != page:
            self.close()
            self._current = Reader(page).__enter__()
        return self._current

    def close(self) -> None:
        """End the current reader and what it started."""
        if self._current is not None:
            self._current.__exit__(None, None, None)
            self._current = None


@pytest.fixture(scope="module")
def readers() -> Iterator[Readers]:
    """Readers of pages; the last one is ended in the end."""
    all_readers = Readers()
    yield all_readers
    all_readers.close()


@pytest.mark.parametrize(("page", "number"), EXAMPLES, ids=[f"{Path(page).stem}-{number}" for page, number in EXAMPLES])
def test_an_example_does_what_its_page_says(readers: Readers, page: str, number: int) -> None:
    readers.of(ROOT / page).follow(number)


def test_every_page_with_code_is_followed() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    with_examples = {path.relative_to(ROOT).as_posix() for path in pages if read_examples(path)}
    assert with_examples == {*PAGES, *IN_OPS}
