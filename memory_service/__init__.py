"""The memory service: facts remembered, recalled and forgotten over the bus, durable in ``MEMORY``."""
