"""Circuit breaker: stops calling an upstream that keeps failing, and finds out when it is well again."""
