"""Shared fixtures: where the real images are, and one thread a process."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import pytest
from hypothesis import HealthCheck, settings

# Machines are shared and slow at times: a test fails for what it finds, not for how long it took to find it.
settings.register_profile("terradelta", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("terradelta")

SHARED_DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real labelled and georeferenced images; skips where it is absent."""
    folder = Path(os.environ.get("TERRADELTA_SHARED_DATA", SHARED_DATA))
    if not folder.is_dir():
        pytest.skip(f"real images are not here: {folder} (set TERRADELTA_SHARED_DATA to their folder)")
    return folder.resolve()
