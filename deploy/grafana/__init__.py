"""The dashboards as code: `python -m deploy.grafana` writes what is in `dashboards/`."""
