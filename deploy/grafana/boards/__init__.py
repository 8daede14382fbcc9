"""The six dashboards, in the order in which they are looked at."""

from deploy.grafana.board import Board
from deploy.grafana.boards.bus import BUS
from deploy.grafana.boards.loop import LOOP
from deploy.grafana.boards.memory import MEMORY
from deploy.grafana.boards.models import MODELS
from deploy.grafana.boards.overview import OVERVIEW
from deploy.grafana.boards.policy import POLICY

BOARDS: tuple[Board, ...] = (OVERVIEW, LOOP, POLICY, MEMORY, MODELS, BUS)
