"""Two arrays of raw sensor values in, probabilities of change out."""
