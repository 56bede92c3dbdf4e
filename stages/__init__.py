"""One module a DVC stage: parameters in, library called, files out."""
