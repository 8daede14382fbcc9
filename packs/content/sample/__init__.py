"""The sample: a studio's staff, glossary and events, with what must come of each."""
