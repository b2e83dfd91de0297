"""The fixtures of `tests/mapping`; what these tests need of the extra ``[xarray]``."""

import pytest

pytest.importorskip("rioxarray")
pytest.importorskip("dask.array")
pytest.importorskip("geopandas")

from tests.mapping.conftest import pair_values, write_tiff

__all__ = ["pair_values", "write_tiff"]
