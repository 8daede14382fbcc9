"""What all tests share: where the real inputs are."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real inputs, which are no part of the project: beside it, or where ``WORKMESH_TEST_DATA`` says.

    Without them the tests that need them are skipped, but never in CI.
    """
    folder = Path(os.environ.get("WORKMESH_TEST_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        message = f"no shared data in {folder}: set WORKMESH_TEST_DATA"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return folder


@pytest.fixture(scope="session")
def retail_data(shared_data: Path) -> Path:
    """Real orders, customers, products, requests, and what must come of them."""
    return shared_data / "retail"
