"""How long a test waits for another process: a guard against one that hangs, far above what a busy machine needs."""

PATIENCE = 600  # seconds
