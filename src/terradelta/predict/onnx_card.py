"""Copy a model with another card: the weights stay as they are, bit for bit.

An ONNX file is one protocol-buffer message, a sequence of fields. The card is one of them, so that it can be exchanged
without the library `onnx` (which the core does not have) and without reading the network.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from terradelta.card import CARD_KEY, ModelCard
from terradelta.errors import ModelError, needs
from terradelta.files import cannot_write, write_whole
from terradelta.predict.load import SHORT_NAMES, find_model, shipped_models
from terradelta.predict.predictor import Predictor

__all__ = ["copy_with_card", "exchange_card", "weights_identity"]

_METADATA = 14  # ModelProto.metadata_props, repeated StringStringEntryProto
_KEY, _VALUE = 1, 2  # its fields
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types


def copy_with_card(model: str, card: ModelCard, out: Path) -> None:
    """Write a copy of an ONNX file, a checkpoint or a run's best checkpoint that carries ``card``.

    Args:
        model: as for `load_predictor`, such as ``default`` or a file.
        card: the new card; must describe the same network.
        out: the file to write; appears whole or not at all.

    Raises:
        ModelError: if the model is no such file, or ``out`` has not the same kind of name.
        MissingExtraError: if it is a checkpoint and torch is not installed.
        OutputError: if it cannot be written.
    """
    shipped = shipped_models()  # whose int8 form has a file and a name of its own, see `load_predictor`
    source = find_model(card.name if model in (*SHORT_NAMES, *shipped) else model)
    if source.suffix.lower() != ".onnx":
        _copy_checkpoint(source, card, out)
        return
    if out.suffix.lower() != ".onnx":
        raise ModelError(f"{out}: the name of an ONNX file ends in .onnx")
    try:
        content = exchange_card(source.read_bytes(), card.to_json())
    except (OSError, ValueError) as error:
        raise ModelError(f"{source} cannot be read as an ONNX model ({error}); export it again") from error
    write_whole(out, content, make_folder=True)


def weights_identity(predictor: Predictor) -> str:
    """A hash of the weights for receipts: of an ONNX file without its card, which may take up the receipt later.

    Of any other predictor its `Predictor.identity`, which depends on the card too.
    """
    path = getattr(predictor, "path", None)
    if not isinstance(path, Path) or path.suffix.lower() != ".onnx":
        return predictor.identity
    return hashlib.sha256(exchange_card(path.read_bytes(), None)).hexdigest()


def _copy_checkpoint(source: Path, card: ModelCard, out: Path) -> None:
    with needs("train", f"{source} is a training run, which"):
        from terradelta.lab.networks.checkpoint import load_network, save_network
    if out.suffix.lower() == ".onnx":
        raise ModelError(f"{out}: a copy of a checkpoint is no ONNX file; name it .ckpt, then use `terradelta export`")
    network, _ = load_network(source)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(out, error) from error
    save_network(network, card, out)


def exchange_card(content: bytes, card: str | None) -> bytes:
    """The bytes of an ONNX model with another card, or with none.

    Raises:
        ValueError: if they are no protocol-buffer message.
    """
    kept = [
        content[start:stop]
        for number, start, body, stop in _fields(content)
        if not _is_card(number, content[body:stop])
    ]
    if card is not None:
        kept.append(_field(_METADATA, _field(_KEY, CARD_KEY.encode()) + _field(_VALUE, card.encode())))
    return b"".join(kept)


def _is_card(number: int, body: bytes) -> bool:
    """Whether a field of the model is the entry that holds the card."""
    return number == _METADATA and any(
        part == _KEY and body[first:stop] == CARD_KEY.encode() for part, _, first, stop in _fields(body)
    )


def _fields(content: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Number, start, start of the value and end of each field of a message."""
    at = 0
    while at < len(content):
        start = at
        tag, at = _varint(content, at)
        number, kind = tag >> 3, tag & 7
        body, at = _value(content, kind, at)
        if at > len(content) or number == 0:
            raise ValueError("it is damaged or truncated")
        yield number, start, body, at


def _value(content: bytes, kind: int, at: int) -> tuple[int, int]:
    """Start and end of a field's value."""
    if kind == _VARINT:
        return at, _varint(content, at)[1]
    if kind == _BYTES:
        length, at = _varint(content, at)
        return at, at + length
    if kind in (_FIXED64, _FIXED32):
        return at, at + (8 if kind == _FIXED64 else 4)
    raise ValueError("it is damaged or of another format")


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """A number in groups of seven bits, lowest first, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(content):
            break
        byte = content[at]
        value, at = value | (byte & 0x7F) << shift, at + 1
        if byte < 0x80:
            return value, at
    raise ValueError("it is damaged or truncated")


def _field(number: int, value: bytes) -> bytes:
    return _as_varint(number << 3 | _BYTES) + _as_varint(len(value)) + value


def _as_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
