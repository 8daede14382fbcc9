"""Backups of a site: taken while it runs, checked offline, restored into an empty site."""
