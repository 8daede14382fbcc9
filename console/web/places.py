"""Where the console keeps its files in the state folder."""

from pathlib import Path

from mesh.settings import Settings


def tokens_path(settings: Settings) -> Path:
    """Where the tokens of people are, unless the settings say otherwise."""
    return Path(settings.console.tokens) if settings.console.tokens else settings.state_dir / "console" / "tokens"


def url_path(settings: Settings) -> Path:
    """Where a running console says its address."""
    return settings.state_dir / "console" / "url"
