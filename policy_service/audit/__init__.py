"""The auditor: a process of its own that keeps a Merkle log over the journal and signs its checkpoints."""
