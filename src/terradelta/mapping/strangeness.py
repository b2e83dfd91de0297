"""Whether a pair looks like the images that a network was trained on, said before the run."""

import numpy as np
from numpy.typing import NDArray

from terradelta.geo.windows import spread_windows
from terradelta.predict.predictor import Predictor
from terradelta.raster.pair import Pair
from terradelta.raster.scaling import Scaling, scaled_dates

__all__ = ["domain_warnings", "strangeness_of"]

LEAST_VALID = 0.5


def domain_warnings(pair: Pair, predictor: Predictor, scaling: Scaling | None) -> list[str]:
    """A sentence where a date is further from the training images than validation images are; none where not known."""
    limit = predictor.card.domain_limit
    medians = None if limit is None else strangeness_of(pair, predictor, scaling)
    if limit is None or medians is None:
        return []
    date = int(medians.argmax())
    if medians[date] <= limit:
        return []
    which = ("first", "second")[date]
    return [
        f"Warning: to the model {predictor.name} the {which} date looks unlike what it was trained on "
        f"({medians[date]:.1f}; 19 of 20 of its own validation images are within {limit:.1f}): its result here is "
        "untested. --method irmad finds any change."
    ]


def strangeness_of(pair: Pair, predictor: Predictor, scaling: Scaling | None) -> NDArray[np.float32] | None:
    """How far each date ``(2,)`` is from the training images; None where the weights do not tell, or nothing is valid.

    Nine windows of 256 pixels, evenly spread, are looked at; a date's strangeness is their median.
    """
    found = []
    for tile in spread_windows(pair.grid.shape):
        window = pair.read(tile)
        if window.valid.mean() >= LEAST_VALID:
            dates = scaled_dates((window.before, window.after), window.valid, scaling, predictor.fill)
            strange = predictor.strangeness(*(values[None] for values in dates))
            if strange is None:
                return None
            found.append(strange[:, 0])
    predictor.release()
    if not found:
        return None
    medians: NDArray[np.float32] = np.median(np.array(found), axis=0)
    return medians
