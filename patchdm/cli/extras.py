"""What to install for a command that lacks a package: the extras of pyproject.toml."""

from __future__ import annotations

MODULES = {
    "app": ("fastapi", "starlette", "uvicorn", "zstandard"),
    "large": ("pyvips",),
    "pipeline": (
        "boto3", "botocore", "dvc", "dvc_data", "dvclive", "httpx", "matplotlib", "open_clip",
        "prefect", "psutil", "requests", "tabulate", "tensorboard", "threadpoolctl",
        "torch_fidelity", "torchvision", "urllib3", "uvicorn", "zstandard",
    ),
}  # fmt: skip
"""Extra -> what is imported of its packages."""


def to_install(error: ModuleNotFoundError, command: str) -> str | None:
    """Return the line that says what to install; None: the module is of no extra.

    Args:
        error: of the import.
        command: of `patchdm`, whose name an extra may have.
    """
    module = (error.name or "").partition(".")[0]
    extras = [extra for extra, modules in MODULES.items() if module in modules]
    if not extras:
        return None
    extra = command if command in extras else extras[-1]
    return f"{command}: found no {module}, `pip install 'patchdm[{extra}]'`"
