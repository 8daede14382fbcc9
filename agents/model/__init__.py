"""The model role: asks models what prompts ask, at a known cost, and puts what came of it on record."""
