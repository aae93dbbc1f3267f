"""Configuration: what can be set, where it comes from, and how mistakes are found.

::

    flags ─┐
    SIDECAR_… ─┤ layers ─► pydantic validates ─► checks ─► Settings ──pickle──► the running process
    FILE ─ yaml_source ─┘  (all in a child process)

The running process imports ``model`` and ``client`` only: pydantic, PyYAML and typer cost more memory than a
whole idle sidecar should, so they live and die in the child (``python -m sidecar.settings.compile``).
"""
