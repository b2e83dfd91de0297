"""The arithmetic of place: grids, tiles, blending, shifts. Opens no file."""
