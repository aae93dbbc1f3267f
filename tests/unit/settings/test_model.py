import copy
import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace

import pytest

from sidecar.settings.addresses import Address
from sidecar.settings.introspect import descriptions, keys_of, section_at, sections
from sidecar.settings.model import Limits, Listener, Match, Settings, Timeouts, Upstream


def test_settings_can_be_sent_between_processes():
    settings = Settings(upstreams={"app": Upstream()}, workers=4)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(settings, protocol)) == settings
    assert copy.deepcopy(settings) == settings


def test_settings_do_not_change():
    with pytest.raises(FrozenInstanceError, match="a new one is loaded"):
        Settings().workers = 2
    with pytest.raises(FrozenInstanceError):
        del Settings().workers
    with pytest.raises(AttributeError):
        object.__setattr__(Settings(), "surprise", 1)


def test_settings_compare_by_value():
    assert Timeouts() == Timeouts()
    assert Timeouts(connect=2.0) != Timeouts()
    assert Timeouts() != Limits()
    assert hash(Timeouts()) == hash(Timeouts(connect=1.0))
    assert replace(Timeouts(), connect=2.0).connect == 2.0


def test_a_section_is_made_of_its_keys():
    assert repr(Match(path="/a")) == "Match(listener=None, host=None, path='/a', prefix=None, methods=())"
    with pytest.raises(TypeError, match="Match has no 'pth'"):
        Match(pth="/a")
    with pytest.raises(TypeError, match="Listener needs 'bind'"):
        Listener(name="a")
    assert Settings().listeners[0].bind == Address("0.0.0.0", 8080)


def test_a_mutable_default_is_not_shared():
    assert Settings().upstreams is not Settings().upstreams


@pytest.mark.parametrize("section", dict.fromkeys(section for _, section in sections()))
def test_every_section_and_key_is_described(section):
    assert is_dataclass(section)
    assert section.__doc__
    assert "__dict__" not in dir(section)
    for field in fields(section):
        assert descriptions()[section.__name__, field.name].endswith((".", ")"))


@pytest.mark.parametrize("section", dict.fromkeys(section for _, section in sections()))
def test_every_default_lies_in_its_own_range(section):
    for key in keys_of(section).values():
        if key.kind is None or key.required or key.default is None:
            continue
        for value in key.default if key.shape == "list" else [key.default]:
            assert key.kind.parse(key.kind.show(value)) == value


def test_places():
    assert section_at(()) is Settings
    assert section_at(("upstreams", "app", "timeouts")) is Timeouts
    assert section_at(("routes", 0, "match")) is Match
    assert section_at(("upstreams",)) is None
    assert section_at(("workers", "x")) is None
    assert section_at(("surprise",)) is None


def test_the_running_process_loads_no_validator():
    code = (
        "import sys\n"
        "import sidecar.routing, sidecar.settings.client, sidecar.settings.model, sidecar.settings.present\n"
        "print(sorted({'pydantic', 'pydantic_core', 'rich', 'typer', 'yaml'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_reading_loads_nothing_that_only_delays_a_start():
    code = (
        "import sys\n"
        "import sidecar.settings.compile, sidecar.settings.load\n"
        "print(sorted({'rich', 'typer'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
