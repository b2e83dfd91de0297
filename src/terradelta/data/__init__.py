"""Pairs in: folder layouts, synthetic scenes, transforms and checks."""
