"""The fixtures of `tests/mapping`."""

from tests.mapping.conftest import pair_values, write_tiff

__all__ = ["pair_values", "write_tiff"]
