"""Sockets: connections from clients, connections to upstreams, and the time that both may take."""
