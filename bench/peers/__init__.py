"""The contenders: the sidecar and the proxies it is compared with."""
