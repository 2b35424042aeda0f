"""Files on connections of their own: tus 1.0 up, ranges down, and the stores behind. It knows no message."""
