"""Restate: its server, and a service endpoint with its Python SDK."""
