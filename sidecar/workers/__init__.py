"""Several processes that serve as one sidecar.

The first process has the admin port, the subscriptions, the health checks and the configuration; its workers
have the clients. They share listening sockets, numbers (:mod:`sidecar.workers.commons`) and a link each.
"""
