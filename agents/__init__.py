"""The agents: processes that perceive, plan, act and learn. They meet on the bus and import only ``mesh``."""
