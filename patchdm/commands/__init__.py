"""What `patchdm sample`, `inpaint` and `outpaint` do: words in, files out."""
