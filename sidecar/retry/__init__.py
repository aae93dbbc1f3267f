"""Retry: sends again what is safe to send again, and never so much that it makes things worse."""
