"""Labelled pairs in: archives, folders, tables, GeoTIFFs and synthetic scenes. No torch."""

from terradelta.data.opening import open_pairs
from terradelta.data.pairs import LabelledPair, PairFiles, PairList, PairSource

__all__ = ["LabelledPair", "PairFiles", "PairList", "PairSource", "open_pairs"]
