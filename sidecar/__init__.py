"""The sidecar: see README.md."""
