"""Tracing: W3C context in and out, and spans that are built once, when a sampled exchange has ended."""
