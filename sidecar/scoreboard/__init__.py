"""Numbers that all workers of one sidecar see. As in Apache's scoreboard, each worker writes its own part."""
