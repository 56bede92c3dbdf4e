"""The studio: sample, inpaint and outpaint in a browser, on this machine."""
