"""What people said of a change map: verdicts, drawn changes, and the labels that they make."""
