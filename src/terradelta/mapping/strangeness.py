"""Whether a pair looks like the images that a network was trained on, said before the run."""

import numpy as np

from terradelta.geo.windows import spread_windows
from terradelta.predict.predictor import Predictor
from terradelta.raster.pair import Pair
from terradelta.raster.scaling import Scaling, scaled_dates

__all__ = ["domain_warnings"]

LEAST_VALID = 0.5


def domain_warnings(pair: Pair, predictor: Predictor, scaling: Scaling | None) -> list[str]:
    """A sentence where a date is further from the training images than its validation images are; none where not known.

    Nine windows of 256 pixels, evenly spread, are looked at; a date's strangeness is their median.
    """
    limit = predictor.card.domain_limit
    if limit is None:
        return []
    found = []
    for tile in spread_windows(pair.grid.shape):
        window = pair.read(tile)
        if window.valid.mean() >= LEAST_VALID:
            dates = scaled_dates((window.before, window.after), window.valid, scaling, predictor.fill)
            strange = predictor.strangeness(*(values[None] for values in dates))
            if strange is None:
                return []
            found.append(strange[:, 0])
    if not found:
        return []
    medians = np.median(np.array(found), axis=0)
    date = int(medians.argmax())
    if medians[date] <= limit:
        return []
    which = ("first", "second")[date]
    return [
        f"Warning: to the model {predictor.name} the {which} date looks unlike what it was trained on "
        f"({medians[date]:.1f}; 19 of 20 of its own validation images are within {limit:.1f}): its result here is "
        "untested. --method irmad finds any change."
    ]
