"""Where the retail tests find their data, and how they start shops."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

from packs.retail.shop.faults import Faults
from packs.retail.shop.process import ShopProcess

ROOT = Path(__file__).parents[3]
SAMPLE = ROOT / "packs" / "retail" / "sample"

StartShop = Callable[..., ShopProcess]


@pytest.fixture
def start_shop(tmp_path: Path) -> Iterator[StartShop]:
    """Starts shops on the sample data (or `data`) and one database; all are stopped at the end."""
    with ExitStack() as running:

        def start(*, data: Path = SAMPLE, faults: Faults | None = None, port: int = 0) -> ShopProcess:
            return running.enter_context(ShopProcess(data, tmp_path / "shop.db", faults=faults, port=port))

        yield start


@pytest.fixture
def shop(start_shop: StartShop) -> Iterator[httpx2.Client]:
    """A client of a shop on the sample data that can be made faulty."""
    with httpx2.Client(base_url=start_shop(faults=Faults()).url, trust_env=False) as client:
        yield client
