"""What of the processor decides how fast a network runs."""

from pathlib import Path

__all__ = ["instructions"]


def instructions() -> list[str]:
    """Which of the instructions that make bfloat16 and 8-bit integers fast the processor has."""
    told = Path("/proc/cpuinfo")
    words = set(told.read_text().split()) if told.exists() else set()
    return sorted({"amx_bf16", "amx_int8", "avx512_bf16", "avx512_vnni", "avx_vnni"} & words)
