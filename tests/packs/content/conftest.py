"""Where the content tests find their data, and how they start a CMS."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from packs.content.cms.faults import Faults
from packs.content.cms.process import CmsProcess
from packs.content.sample.generate import FOLDER

StartCms = Callable[..., CmsProcess]


@pytest.fixture
def start_cms(tmp_path: Path) -> Iterator[StartCms]:
    """Starts CMSes on the sample's data and one database; all are stopped at the end."""
    with ExitStack() as running:

        def start(*, faults: Faults | None = None, port: int = 0) -> CmsProcess:
            return running.enter_context(CmsProcess(FOLDER, tmp_path / "cms.db", faults=faults, port=port))

        yield start
