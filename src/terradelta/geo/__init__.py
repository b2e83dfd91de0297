"""Pixels and ground: grids, raster pairs, tiles, blending, COG and polygon writing."""
