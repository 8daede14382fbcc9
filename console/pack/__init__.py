"""``workmesh pack``: packs made, looked at before they run, and described by schemas; and the bus by AsyncAPI."""
