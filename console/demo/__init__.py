"""``workmesh demo``: a whole site on a pack's data, watched, verified, and killed on request."""
