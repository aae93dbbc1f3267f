"""HTTP/1.1 without I/O: bytes in, messages out (RFC 9112), and back again."""
