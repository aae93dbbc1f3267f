"""The audit trail: which requests changed what, by whom, in rows that are never changed again.

::

    hook ──► recorder ──► spool ──► postgres        off the request path, or durable before it goes on
      │
    mapping (pointer, jsontext, body) ──► record    a request and its response become a row
    chain ──► verify, export                        the rows' hashes, recomputed

Nothing here is imported unless a route has an ``audit`` section; asyncpg only where a database is.
"""
