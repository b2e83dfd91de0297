"""The product of a map in the browser: looked at, judged, and learned from."""
