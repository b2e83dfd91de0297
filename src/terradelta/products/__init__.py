"""Files out: rasters, polygons, and the change map as it is read again."""
