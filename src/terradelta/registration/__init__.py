"""How well two dates lie on one another, and the correction: measured, applied, shown."""
