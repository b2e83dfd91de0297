"""Where networks are trained, scored and compared. The core enters it by one lazy door, `predict.load`."""
