"""A model server whose answers are written down beforehand: the Messages API over real HTTP, without a model."""

__all__: list[str] = []
