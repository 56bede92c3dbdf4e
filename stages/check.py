"""Look before anything is removed: DVC runs this stage first, and always.

It refuses files of the user's in the outputs of stages, and writes data/source.json, which changes
when photographs on this machine do, so that DVC downloads again.
"""

from __future__ import annotations

from patchdm.config import Params
from patchdm.fetch.local import look
from stages._common import SOURCE, run_command
from stages._declared import declared_outputs
from stages._outputs import writing


def check(params: Params) -> None:
    """Write data/source.json."""
    with writing(SOURCE) as fresh:
        fresh.write_text(look(params.data))


if __name__ == "__main__":
    run_command("check", check, declared_outputs())
