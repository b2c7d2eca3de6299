"""Memory, disk, traffic and time of a run, computed before it starts."""
