"""`load_model`: a network or a classical method by its name; `models`: what there is."""

from terradelta.card import ModelCard
from terradelta.predict.classical import load_method, methods
from terradelta.predict.load import load_predictor, shipped_models
from terradelta.predict.predictor import Predictor

__all__ = ["card_of", "load_model", "models"]


def load_model(name: str = "default", *, device: str = "cpu", threads: int | None = None) -> Predictor:
    """A network, or a classical method, ready for `detect_change` and `map_change`.

    Args:
        name: ``default``, the name of shipped weights, an ONNX file, a checkpoint or a training run's folder; or a
            method without weights: ``cva``, ``irmad`` or ``pca-kmeans``.
        device: see `load_predictor`; a method runs on the CPU.
        threads: compute threads on the CPU; None: all cores.

    Raises:
        ModelError: if there is no such model, or it cannot be used on the device.
        MissingExtraError: if it needs torch and torch is not installed.

    Example:
        >>> import terradelta as td
        >>> td.load_model("irmad").name
        'irmad'
        >>> td.load_model("default").card.bands
        ('red', 'green', 'blue')
    """
    return load_method(name) if name in methods() else load_predictor(name, device=device, threads=threads)


def models() -> dict[str, ModelCard]:
    """The cards of the weights that ship, by name.

    Example:
        >>> import terradelta as td
        >>> td.models()["buildings"].finds
        'buildings that appeared or disappeared'
    """
    return {name: card_of(name) for name in shipped_models()}


def card_of(name: str) -> ModelCard:
    """The card of a model by its name; nothing is said of how well it would run on this CPU."""
    import warnings

    from terradelta.predict.load import PrecisionWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PrecisionWarning)  # only the card is looked at
        return load_predictor(name, threads=1).card
