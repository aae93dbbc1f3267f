"""Idempotency keys: at most one execution per key reaches the upstream while the key's record lives.

``engine`` is what the proxy and the ASGI middleware call, ``core`` holds the states, and ``store`` the
protocol that ``memory`` and ``redis`` implement.
"""
