"""Configuration: what can be set, where it comes from, and how mistakes are found.

::

    flags ────────────────┐
    SIDECAR_… environment ┼─ sources ─► pydantic ─► checks ─► resolve ─► Settings ─► the running process
    FILE ── yaml_source ──┘  └─────────────── a child process ───────────────┘  pipe

The running process imports ``model``, ``child``, ``client`` and ``outcome``: pydantic, PyYAML and typer cost
more memory than a whole idle sidecar should, so they live in the child alone (``sidecar.settings.compile``).
"""
