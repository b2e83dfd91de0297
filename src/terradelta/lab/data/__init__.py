"""Labelled pairs in: archives, folders, tables, GeoTIFFs and synthetic scenes. No torch."""

from terradelta.lab.data.opening import open_pairs
from terradelta.lab.data.pairs import LabelledPair, PairFiles, PairList, PairSource

__all__ = ["LabelledPair", "PairFiles", "PairList", "PairSource", "open_pairs"]
