"""Seeded damage to files: bytes for binary formats, tokens for texts."""

import random
import re

__all__ = ["mutate_bytes", "mutate_text"]

NUMBERS = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
WORDS = (
    *("", "-1", "0", "1", "99999999999", "1e308", "-1e308", "nan", "inf", "0x7f", "../../../etc/passwd", "/dev/zero"),
    *(
        "/dev/stdin",
        "null",
        "[]",
        "{}",
        "x" * 70_000,
        "\x00",
        "\ufeff",
        "\udc80",
        "&lt;",
        "<",
        '"',
        "%s%n",
        "\U0001f600",
    ),
)
TOKEN = re.compile(r"[A-Za-z_]+|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|[^\sA-Za-z_\d]")


def mutate_bytes(content: bytes, draw: random.Random) -> bytes:
    """One to four random changes of bytes."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 4))):
        draw.choice((_flip, _number, _noise, _cut, _repeat, _end))(data, draw)
    return bytes(data)


def mutate_text(content: str, draw: random.Random) -> bytes:
    """One to three changes of words, numbers and signs; now and then of bytes."""
    if draw.random() < 0.25:
        return mutate_bytes(content.encode(), draw)
    for _ in range(draw.choice((1, 1, 2, 3))):
        found = list(TOKEN.finditer(content))
        if not found:
            break
        one, other = draw.choice(found), draw.choice(found)
        new = draw.choice(("", one[0] * 2, other[0], draw.choice(WORDS), draw.choice(WORDS)))
        content = content[: one.start()] + new + content[one.end() :]
    return content.encode("utf-8", "surrogatepass")


def _at(data: bytearray, draw: random.Random) -> int:
    """A place, more often near the start, where headers are."""
    reach = min(len(data), 400) if draw.random() < 0.7 else len(data)
    return draw.randrange(max(1, reach))


def _flip(data: bytearray, draw: random.Random) -> None:
    if data:
        data[min(_at(data, draw), len(data) - 1)] ^= 1 << draw.randrange(8)


def _number(data: bytearray, draw: random.Random) -> None:
    size, start = draw.choice((1, 2, 4, 8)), _at(data, draw)
    value = draw.choice(NUMBERS) % (1 << 8 * size)
    data[start : start + size] = value.to_bytes(size, draw.choice(("little", "big")))


def _noise(data: bytearray, draw: random.Random) -> None:
    size, start = draw.choice((1, 2, 4, 16, 64)), _at(data, draw)
    data[start : start + size] = draw.randbytes(size)


def _cut(data: bytearray, draw: random.Random) -> None:
    start = _at(data, draw)
    del data[start : start + draw.choice((1, 2, 4, 32, 256))]


def _repeat(data: bytearray, draw: random.Random) -> None:
    start = _at(data, draw)
    data[start:start] = data[start : start + draw.choice((1, 4, 32, 256))]


def _end(data: bytearray, draw: random.Random) -> None:
    del data[draw.randrange(max(1, len(data))) :]
