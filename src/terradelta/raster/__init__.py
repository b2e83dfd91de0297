"""Files in: two rasters as one pair on one grid, read tile by tile."""
