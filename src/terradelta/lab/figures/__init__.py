"""Figures for papers: networks side by side, curves of training, heat maps of layers."""
