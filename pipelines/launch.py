"""`python -m pipelines.launch N MODULE`: a stage in N processes, by `accelerate launch`.

A configuration of accelerate's own goes along, so that none of the user's interferes.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

CONFIG = Path(__file__).with_name("accelerate.yaml")


def command(module: str, num_processes: int) -> list[str]:
    """Return the Python module and arguments that run a stage's module in several processes."""
    return ["pipelines.launch", str(num_processes), module]


def main(num_processes: str, module: str) -> None:
    """Become the launcher, on GPUs where there are any."""
    import torch  # noqa: PLC0415 - seconds, which who asks for the command need not spend
    from accelerate.commands import launch  # noqa: PLC0415

    # Without it, every process would take itself for the only one.
    os.environ["ACCELERATE_USE_CPU"] = "false" if torch.cuda.is_available() else "true"
    options = ["--config_file", str(CONFIG), "--num_processes", num_processes, "-m", module]
    launch.launch_command(launch.launch_command_parser().parse_args(options))


if __name__ == "__main__":
    main(*sys.argv[1:])
