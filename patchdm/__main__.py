"""`python -m patchdm` is the `patchdm` command of this very Python."""

from patchdm.cli import main

if __name__ == "__main__":
    main()
