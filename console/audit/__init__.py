"""``workmesh audit``: what the audit log says of the journal, for operators, auditors and regulators."""
