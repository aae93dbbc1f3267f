"""The port for operators and scrapers."""
