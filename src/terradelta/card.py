"""The model card: what a set of weights needs to be used rightly.

It travels inside the checkpoint and inside the ONNX file's metadata (one JSON string under the key
``terradelta_card``); inference refuses a file without it. Normalisation is a method of the card, so training and
inference run the same code.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terradelta.errors import BandError, ModelError
from terradelta.strangers import read_json

__all__ = ["CARD_KEY", "EIGHT_BIT", "NO_LIMIT", "STRETCH", "ModelCard", "method_purpose"]

CARD_KEY = "terradelta_card"
_CARD_VERSION = 1
EIGHT_BIT = 255.0
"""`ModelCard.scale` of networks for 8-bit pictures."""
STRETCH = (1.0, 99.0)
"""`ModelCard.stretch` of such networks."""

NO_LIMIT = "No limit: the method has no weights; only the licences of the two images bind."
"""`ModelCard.licence` of a method that was fitted to nothing but the pair at hand."""


@dataclass(frozen=True)
class ModelCard:
    """Facts about one set of weights. All sizes are in pixels unless the name says otherwise.

    Example:
        >>> import terradelta as td
        >>> card = td.load_model("default").card
        >>> card.bands, card.scale, card.gsd_m
        (('red', 'green', 'blue'), 255.0, (0.4, 1.0))
    """

    name: str
    """Name of the weights, e.g. ``mlla_sianet_levir_subset``."""
    network: str
    """Registered name of the network (see ``terradelta models``)."""
    bands: tuple[str, ...]
    """Band names in the order that the network takes them, e.g. ``("red", "green", "blue")``."""
    mean: tuple[float, ...]
    """Mean of each band, in units of ``scale`` (0 to 1 for 8-bit data with scale 255)."""
    std: tuple[float, ...]
    """Standard deviation of each band, in units of ``scale``; above 0."""
    scale: float = 255.0
    """Raw sensor value that counts as 1: raw values are divided by it first."""
    stretch: tuple[float, float] | None = None
    """Percentiles of a pair's values that become 0 and ``scale`` where the images are not 8 bit: for networks that have
    seen nothing but 8-bit pictures. None: values are taken as they are stored. See `terradelta.raster.scaling`."""
    network_args: dict[str, Any] = field(default_factory=dict)
    """Arguments of the network's constructor."""
    stride: int = 16
    """Height and width are padded to a multiple of this inside the predictor."""
    receptive_field: int = 0
    """Side of the square of input pixels that can reach one output pixel (theoretical)."""
    overlap: int = 64
    """Pixels by which neighbouring tiles overlap by default; chosen by measuring the seam."""
    tile: int = 512
    """Default side of a tile."""
    finds: str = ""
    """What it was trained to find, as the end of a sentence, e.g. ``changed buildings``; empty: not stated."""
    gsd_m: tuple[float, float] | None = None
    """Range of ground sampling distance in the training data, metres per pixel."""
    threshold: float = 0.5
    """Probability from which a pixel counts as changed; chosen on validation data."""
    temperature: float = 1.0
    """Logits are divided by this before the sigmoid (calibration on validation data)."""
    logit_bias: float = 0.0
    """Added to the logits after that (calibration on validation data)."""
    symmetric: bool = False
    """Whether swapping the dates leaves the result unchanged."""
    paper: str = ""
    """Citation of the network."""
    data: str = ""
    """Data that the weights were fitted on."""
    domain_limit: float | None = None
    """How far from the training images a scene may look to the network before that is worth a warning, see
    `terradelta.predict.predictor.Predictor.strangeness`; None: not known."""
    licence: str = ""
    """Licence of the weights, with its reason."""
    scores: tuple[dict[str, Any], ...] = ()
    """Receipts of evaluations: data, split, protocol, threshold, metrics as fractions."""
    training: dict[str, Any] = field(default_factory=dict)
    """How the weights were trained: steps, seed, hardware, duration."""
    quantisation: dict[str, Any] = field(default_factory=dict)
    """How the weights were made int8, and how far they are from float32; empty for weights in floating point."""
    code_version: str = ""
    """terradelta version that wrote the weights."""
    origin: dict[str, str] | None = None
    """Source, revision and SHA-256 of a file that was fetched; set where it is loaded, never taken from the file."""

    def __post_init__(self) -> None:
        n = len(self.bands)
        if not (len(self.mean) == len(self.std) == n > 0):
            raise ModelError(
                f"model card {self.name!r}: {n} bands, {len(self.mean)} means, {len(self.std)} standard deviations; "
                "give one mean and one standard deviation for each band"
            )
        if not all(x > 0 for x in (*self.std, self.scale, self.temperature)):  # not-a-number is refused too
            raise ModelError(f"model card {self.name!r}: std, scale and temperature must be above 0")

    @property
    def fill(self) -> NDArray[np.float32]:
        """``(2, C)`` raw values of both dates for pixels without data: the means, so nothing looks changed there."""
        mean = np.asarray(self.mean, np.float32) * np.float32(self.scale)
        return np.stack([mean, mean])

    def normalise(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Raw sensor values to the network's input: ``(values / scale - mean) / std``.

        Args:
            values: ``(..., C, H, W)`` raw sensor values, any dtype.

        Returns:
            ``(..., C, H, W)`` float32.

        Raises:
            BandError: if C differs from the number of bands of the card.
        """
        if values.ndim < 3 or values.shape[-3] != len(self.bands):
            raise BandError(
                f"model {self.name!r} takes {len(self.bands)} bands ({', '.join(self.bands)}), "
                f"but the array has shape {values.shape}; expected (..., {len(self.bands)}, H, W)"
            )
        mean = np.asarray(self.mean, np.float32)[:, None, None]
        std = np.asarray(self.std, np.float32)[:, None, None]
        # One multiply and one add per value: (v / scale - mean) / std = v * gain + bias.
        out = values.astype(np.float32)
        out *= 1.0 / (np.float32(self.scale) * std)
        out -= mean / std
        return out

    def to_json(self) -> str:
        """The card as one JSON object, without ``origin``."""
        fields = dataclasses.asdict(self)
        del fields["origin"]
        return json.dumps({"card_version": _CARD_VERSION, **fields}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, source: str = "model card") -> "ModelCard":
        """Read a card written by `to_json`.

        Args:
            text: the JSON object.
            source: where it came from, for the error message.

        Raises:
            ModelError: if it is no card, or of a newer version than this code reads.
        """
        try:
            fields = read_json(text)
            version = fields.pop("card_version")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ModelError(f"{source}: the model card is not readable; export the model again") from error
        if version != _CARD_VERSION:
            raise ModelError(f"{source}: model card version {version!r}; this terradelta reads {_CARD_VERSION}")
        _check_fields(fields, source)
        fields.pop("origin", None)  # only who fetched a file knows
        if "stretch" not in fields and fields.get("scale", EIGHT_BIT) == EIGHT_BIT:
            fields["stretch"] = STRETCH  # cards of before the field: such networks were always used so
        try:
            for name in ("bands", "mean", "std", "scores", "gsd_m", "stretch"):
                if fields.get(name) is not None:
                    fields[name] = tuple(fields[name])
            return cls(**fields)
        except TypeError as error:
            raise ModelError(f"{source}: the model card does not have the expected fields ({error})") from error

    @property
    def weightless(self) -> bool:
        """Whether it belongs to a method that is fitted to the pair at hand alone."""
        return self.licence == NO_LIMIT

    def purpose(self) -> str:
        """What it finds, and on what imagery, in one or two sentences."""
        if self.weightless:
            return method_purpose(self.name)
        seen = f"images of {self.sizes}" if self.sizes else "images whose pixel size is not stated"
        finds = f"finds {self.finds}, nothing else" if self.finds else "does not state what it was trained to find"
        return f"The model {self.name} {finds}; trained on {seen} ({', '.join(self.bands)})."

    @property
    def sizes(self) -> str:
        """Pixel sizes of the training data in words; empty: not stated."""
        if self.gsd_m is None:
            return ""
        low, high = self.gsd_m
        return f"{low:g} m per pixel" if low == high else f"{low:g} to {high:g} m per pixel"

    def replace(self, **changes: Any) -> "ModelCard":  # noqa: ANN401  any field may be replaced
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)


def method_purpose(name: str) -> str:
    """As `ModelCard.purpose`, of a method that is fitted to the pair at hand."""
    return f"The method {name} finds whatever looks different, whatever the cause: season and light, too."


def _is_text(value: Any) -> bool:  # noqa: ANN401  from JSON, as below
    return isinstance(value, str)


def _is_number(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_size(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_share(value: Any) -> bool:  # noqa: ANN401
    return _is_number(value) and 0 < value <= 1


def _is_range(value: Any) -> bool:  # noqa: ANN401
    return value is None or (_list_of(_is_number)(value) and len(value) == 2)


def _is_stretch(value: Any) -> bool:  # noqa: ANN401
    return value is None or (_is_range(value) and 0 <= value[0] < value[1] <= 100)


def _is_object(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, dict)


def _list_of(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list | tuple) and all(map(holds, value))


_ALLOWED: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("name", "network", "finds", "paper", "data", "licence", "code_version"), (_is_text, "a text")),
    **dict.fromkeys(("mean", "std"), (_list_of(_is_number), "a list of finite numbers")),
    **dict.fromkeys(("scale", "temperature", "logit_bias"), (_is_number, "a finite number")),
    **dict.fromkeys(("stride", "receptive_field", "overlap", "tile"), (_is_size, "a whole number, 0 or more")),
    **dict.fromkeys(("network_args", "training", "quantisation"), (_is_object, "an object")),
    "bands": (_list_of(_is_text), "a list of texts"),
    "threshold": (_is_share, "a number above 0 and at most 1"),
    "domain_limit": (lambda value: value is None or (_is_number(value) and value > 0), "null or a number above 0"),
    "gsd_m": (_is_range, "null or two finite numbers"),
    "stretch": (_is_stretch, "null or two percentiles from 0 to 100, the lower one first"),
    "symmetric": (lambda value: isinstance(value, bool), "true or false"),
    "scores": (_list_of(_is_object), "a list of objects"),
}


def _check_fields(fields: Mapping[str, Any], source: str) -> None:
    """Raise ModelError unless each field of a card's JSON has the type that the code counts on."""
    for name, (allowed, words) in _ALLOWED.items():
        if name in fields and not allowed(fields[name]):
            given = f"{fields[name]!r:.60}"
            raise ModelError(
                f"{source}: {name!r} in the model card is {given}; it must be {words}; export the model again"
            )
