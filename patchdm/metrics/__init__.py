"""How good samples are: feature extractors, FID and KID, seams."""
