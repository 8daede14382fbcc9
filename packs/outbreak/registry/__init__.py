"""The registry: the public health office's own system. It keeps numbers with their provenance, alerts and notices."""
