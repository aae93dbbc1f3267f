"""The event bus: events go in by HTTP or from the library, and come out as CloudEvents at services.

::

    publisher ──► stream (Redis, or memory) ──► feed ──► subscription ──► deliver (the proxy's own path)
        │                                                     │
        └─ spool while Redis is away                          └─ dead letters

``cloudevents``, ``envelope``, ``lanes`` and ``verdict`` are pure. ``streams`` brings Redis and is imported
only where it is used.
"""
