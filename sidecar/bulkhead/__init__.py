"""Bulkhead: bounds the calls that an upstream works on at once, so that a slow one cannot sink the rest."""
