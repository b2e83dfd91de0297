"""Pictures as bytes of a file format, without georeference."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

__all__ = ["encode", "jpeg_round_trip"]


def encode(image: NDArray[np.uint8], driver: str, **options: Any) -> bytes:  # noqa: ANN401  any option of the driver
    """A file's content.

    Args:
        image: ``(bands, H, W)``.
        driver: GDAL's name of the format, such as ``PNG``.
        options: creation options of the driver.
    """
    bands, height, width = image.shape
    with warnings.catch_warnings(), MemoryFile() as memory:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open(driver=driver, count=bands, height=height, width=width, dtype="uint8", **options) as target:
            target.write(image)
        return bytes(memory.read())


def jpeg_round_trip(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """A ``(3, H, W)`` image as it comes back from a JPEG file of a quality from 1 to 100."""
    content = encode(image, "JPEG", quality=quality)
    with warnings.catch_warnings(), MemoryFile(content) as memory:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open() as source:
            decoded: NDArray[np.uint8] = source.read()
    return decoded
