"""Arrays in place of files: change maps of xarray, polygons of geopandas."""
