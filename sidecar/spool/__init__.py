"""The spool: a durable local queue for what waits until Redis or PostgreSQL is back.

``model`` has what callers name (items, errors) and costs nothing to import; ``spool`` has
:class:`~sidecar.spool.spool.Spool` and brings SQLite, so it is imported only where a spool is opened.
"""

from sidecar.spool.model import Item, QueueStats, SpoolError, SpoolFull, SpoolUnavailable

__all__ = ["Item", "QueueStats", "SpoolError", "SpoolFull", "SpoolUnavailable"]
