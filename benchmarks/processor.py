"""What a measurement was made on, for its file."""

from typing import Any

from terradelta.machine import cpu_flags, describe_machine

__all__ = ["made_on"]

_FAST = frozenset({"amx_bf16", "amx_int8", "avx512_bf16", "avx512_vnni", "avx_vnni"})
"""Instructions that make networks in bfloat16 and in 8-bit integers fast."""


def made_on() -> dict[str, Any]:
    """The machine, and which instructions for bfloat16 and 8-bit integers its processor has."""
    return {"machine": describe_machine(), "instructions": sorted(_FAST & (cpu_flags() or frozenset()))}
