"""Tests with a real browser and a real Prometheus: ``make test-ops`` brings both from Debian's packages."""
