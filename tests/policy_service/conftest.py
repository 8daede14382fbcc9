"""Where the shipped policies are."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def retail_policies() -> Path:
    """The shop's policies, as they ship."""
    return Path(__file__).resolve().parents[2] / "packs" / "retail" / "policies"
