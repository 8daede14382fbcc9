"""The tracer: spans made from the journal, sent to a collector by OTLP. Nothing waits for it."""
