"""A trained model at work on any picture: tiles, stitching, writing, the loop over files."""
