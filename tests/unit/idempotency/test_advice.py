from sidecar.idempotency.advice import read_info, weaknesses

GOOD = {
    "redis_version": "7.2.4",
    "maxmemory": "0",
    "maxmemory_policy": "noeviction",
    "aof_enabled": "1",
    "role": "master",
}


def test_info_is_read():
    assert read_info(b"# Server\r\nredis_version:7.0.1\r\n\r\nrole:master\r\n") == {
        "redis_version": "7.0.1",
        "role": "master",
    }


def test_nothing_to_say():
    assert weaknesses(GOOD) == []
    assert weaknesses({}) == []


def test_what_weakens_the_guarantee():
    (text,) = weaknesses(GOOD | {"maxmemory_policy": "volatile-lru", "maxmemory": "100"})
    assert "once maxmemory is reached" in text
    (text,) = weaknesses(GOOD | {"maxmemory_policy": "volatile-lru"})
    assert "if maxmemory is set" in text
    (text,) = weaknesses(GOOD | {"aof_enabled": "0"})
    assert "appendonly" in text
    (text,) = weaknesses(GOOD | {"redis_version": "6.0.16"})
    assert "too old" in text
    (text,) = weaknesses(GOOD | {"role": "slave"})
    assert "replica" in text
