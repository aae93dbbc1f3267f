"""Configuration: what can be set, where it comes from, and how mistakes are found.

::

    flags ────────────────┐
    SIDECAR_… environment ┼─ sources ─► pydantic ─► checks ─► resolve ─► Settings ─► the running process
    FILE ── yaml_source ──┘  └─────────────── a child process ───────────────┘  pipe

The running process imports ``model``, ``child`` and ``client`` only: pydantic, PyYAML and typer cost more
memory than a whole idle sidecar should, so they live and die in the child (``sidecar.settings.compile``).
"""
