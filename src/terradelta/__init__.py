"""terradelta: what changed between two images of the same place.

Importing this package is free: no torch, no GDAL, no OpenVINO until they are used.
"""

__version__ = "0.1.0"
__all__ = ["__version__"]
