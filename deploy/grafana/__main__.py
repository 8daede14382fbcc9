"""Writes the dashboards: ``python -m deploy.grafana``."""

from pathlib import Path

from deploy.grafana.writing import files

FOLDER = Path(__file__).parent / "dashboards"

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in files().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
