"""What stands behind the proxies: the upstream, Redis, and a sink for spans. None of it is measured."""
