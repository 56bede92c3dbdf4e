"""The `patchdm` command."""
