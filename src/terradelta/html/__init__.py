"""What pages are made of: text, charts, pictures, one frame. Every room writes its own page with it."""
