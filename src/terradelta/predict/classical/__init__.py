"""Classical change detection: methods that are fitted to one pair, without weights or labels.

A `Method` reads a pair tile by tile, learns the few numbers it needs, and becomes a predictor for that pair. All of
them take any number of bands of any real dtype, and need no scaling: they standardise.
"""

from terradelta.errors import ModelError
from terradelta.predict.classical.method import Method, Progress
from terradelta.predict.predictor import Predictor
from terradelta.raster.pair import Pair

__all__ = ["Method", "load_method", "methods", "prepared"]


def prepared(predictor: Predictor, pair: Pair, progress: Progress | None = None) -> Predictor:
    """A predictor that is ready for a pair: a method is fitted to it, any other one is ready as it is.

    Args:
        predictor: with a network, or a method.
        pair: the open pair.
        progress: called with (tiles done, tiles in all) while a method is fitted.

    Raises:
        RasterError: if no pixel is valid on both dates, or there are too few for the method.
    """
    return predictor.fit(pair, progress) if isinstance(predictor, Method) else predictor


def methods() -> dict[str, Method]:
    """The methods with their default parameters, by name, in alphabetical order."""
    from terradelta.predict.classical.cva import Cva
    from terradelta.predict.classical.irmad import IrMad
    from terradelta.predict.classical.pca_kmeans import PcaKMeans

    return {method.name: method for method in (Cva(), IrMad(), PcaKMeans())}


def load_method(name: str) -> Method:
    """A method with its default parameters.

    Args:
        name: ``cva``, ``irmad`` or ``pca-kmeans``.

    Raises:
        ModelError: if there is no such method.

    Example:
        >>> import terradelta as td
        >>> td.load_method("cva").year
        2000
    """
    known = methods()
    if name not in known:
        raise ModelError(f"there is no method {name!r}; give one of {', '.join(known)}, or a model with --model")
    return known[name]
