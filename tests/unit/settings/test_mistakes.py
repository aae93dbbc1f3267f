"""A corpus of bad configurations: each file in ``bad/`` says after ``#!`` what is wrong with the line."""

from pathlib import Path

import pytest

from sidecar.settings.flags import Flags
from sidecar.settings.load import load
from sidecar.settings.mistake import Invalid

CORPUS = sorted((Path(__file__).parent / "bad").glob("*.yaml"))


def expected_mistakes(file: Path) -> list[str]:
    expected = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        _, *mistakes = line.split("#! ")
        expected += [f"{file}:{number}: {mistake.rstrip()}" for mistake in mistakes]
    return expected


@pytest.mark.parametrize("file", CORPUS, ids=lambda file: file.stem)
def test_every_mistake_is_found_at_its_line(file):
    with pytest.raises(Invalid) as caught:
        load(Flags(config=str(file)), {})
    assert [str(mistake) for mistake in caught.value.mistakes] == expected_mistakes(file)


def test_the_corpus_is_there():
    assert len(CORPUS) >= 20
    assert all(expected_mistakes(file) for file in CORPUS)


def test_a_file_that_cannot_be_read(tmp_path):
    missing = tmp_path / "missing.yaml"
    with pytest.raises(Invalid) as caught:
        load(Flags(config=str(missing)), {})
    assert str(caught.value) == f"{missing}: cannot be read: No such file or directory"


def test_no_configuration_at_all():
    with pytest.raises(Invalid, match="upstreams: there is none: use --upstream URL"):
        load(Flags(), {})
