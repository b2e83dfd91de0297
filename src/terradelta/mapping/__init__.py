"""Two rasters in, a change map out: rasters, polygons, report, receipt."""
