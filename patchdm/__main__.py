"""`python -m patchdm` is the `patchdm` command of this very Python."""

from patchdm.cli.app import main

if __name__ == "__main__":
    main()
