"""``workmesh chaos``: every process killed or stopped at every boundary of its work, and what came of the tasks."""
