"""Images larger than a model is made for: overlapping tiles, and objects put together from them."""
