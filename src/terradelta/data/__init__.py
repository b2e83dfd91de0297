"""Labelled pairs in: folders of images, and synthetic scenes. No torch."""
