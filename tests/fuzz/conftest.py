"""The runner and the samples of the fuzz tests."""

from collections.abc import Iterator

import pytest

from .runner import Runner
from .samples import Samples


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    made = Runner()
    yield made
    made.close()


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> Samples:
    return Samples(tmp_path_factory.mktemp("samples"))
