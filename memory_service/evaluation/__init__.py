"""Measuring retrieval on labelled questions: your own, and LoCoMo's."""
