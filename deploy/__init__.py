"""What a site is watched with: rules for Prometheus, dashboards for Grafana, and the programs that make them."""
