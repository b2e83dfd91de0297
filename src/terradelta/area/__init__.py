"""How much changed: areas of a map's classes, samples, estimates with intervals, and their page."""
