"""The dashboards as the files that Grafana's provisioning reads."""

import json

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana.board import build
from deploy.grafana.boards import BOARDS


def files() -> dict[str, str]:
    """The text of each file, by name."""
    return {f"{board.uid}.json": _text(build(board)) for board in BOARDS}


def _text(made: object) -> str:
    return json.dumps(made, cls=JSONEncoder, indent=2, sort_keys=True) + "\n"
