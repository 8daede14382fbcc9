"""Domain packs: products that run on the shared system, never a change to it."""
