"""`patchdm fit`: a params.yaml for photographs, a size, some hours and this machine, and why."""

from __future__ import annotations

import importlib.metadata
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from ruamel.yaml import YAML

import patchdm
from patchdm import peaks
from patchdm.cli.cost import disk_bytes
from patchdm.cli.plan import Workload, workload
from patchdm.config import Data, checked_params
from patchdm.config.data import check_location
from patchdm.devices import device_memory, precision
from patchdm.errors import PatchDMError
from patchdm.files import check_room
from patchdm.fit.choose import (
    NO_WORK,
    UNMEASURED,
    Choice,
    base_of,
    check_photographs,
    choose,
    draft,
    with_batch,
)
from patchdm.fit.estimate import Rates, Work
from patchdm.fit.follow import Case, Machine, Wanted
from patchdm.fit.look import Found, look
from patchdm.fit.measure import measure
from patchdm.fit.networks import BEST_PATCH, Network, networks_for
from patchdm.fit.write import params_text
from patchdm.memory import total_memory

_PROCESS = 0.8e9
"""Bytes of a process with torch, before it computes."""
_DAMAGED = 0.9
"""Share of the photographs that may be unreadable while they are looked at."""


def fit(
    photographs: Path,
    size: dict[str, int],
    hours: float,
    out: Path,
    *,
    tell: Callable[[str], None],
    on_start: Callable[[int], Callable[[int], None]],
) -> Iterator[str]:
    """Lay out a run in a new folder; yield what is found and chosen, line by line.

    Raises:
        PatchDMError: no run fits the photographs, the size, the hours or the machine.
    """
    root, location = repository(), str(photographs.resolve())
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise PatchDMError(f"{out}: exists, expected a new folder (--out)")
    machine = this_machine()
    networks = networks_for(size["width"], size["height"], gpu=bool(machine.gpus))
    wanted = Wanted(location=location, hours=hours, **size)
    data = _data(root, wanted)
    try:
        check_location(data, out.resolve())
    except ValueError as error:
        raise PatchDMError(f"--out: found {out}: {error}") from None
    found = look(data, machine.cores, on_start)
    yield from found.lines(**size)
    check_photographs(location, found.usable)
    choice, rates = _chosen(root, wanted, found, machine, networks, tell)
    load = workload(choice.params, found.usable)
    choice, memory, disk = _fitted(choice, load)
    check_room(out.resolve(), disk)
    text = params_text(
        choice,
        f"Written by `patchdm fit` for {machine.gpus or machine.cores} "
        f"{'GPUs' if machine.gpus else 'CPU cores'} and {hours:g} hours. "
        f"What has no comment is of preset {choice.network.preset}.",
    )
    checked_params(YAML(typ="safe", pure=True).load(text), out / "params.yaml")
    _lay_out(root, out, text)
    yield from _about(choice, rates, load.training_images, disk, memory)


def run(folder: Path) -> int:
    """Run `dvc repro` in a folder; return its exit status."""
    command = [sys.executable, "-m", "pipelines.fitted", "repro", str(folder.resolve())]
    with subprocess.Popen(command, cwd=repository()) as process:  # noqa: S603 - fixed
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:  # the stage has got it, too: it saves and ends
                continue


def repository() -> Path:
    """Return what runs are laid out from: the repository here, that of this package, or a wheel's.

    Raises:
        PatchDMError: the installation has none.
    """
    for root in (Path.cwd(), Path(patchdm.__file__).resolve().parents[1], *_installed()):
        if (root / "dvc.yaml").is_file() and (root / "presets").is_dir():
            return root
    raise PatchDMError(
        f"{Path.cwd()}: no dvc.yaml and presets/ here, nor in the installation of patchdm, "
        "expected a clone of the repository or a wheel"
    )


def _installed() -> Iterator[Path]:
    """Yield the folder of the files that the wheel brings beside the packages."""
    for path in importlib.metadata.files("patchdm") or ():
        if path.parts[-3:] == ("share", "patchdm", "dvc.yaml"):
            yield Path(str(path.locate())).resolve().parent


def this_machine() -> Machine:
    """Return the cores and GPUs that a run may use."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Machine(cores=cores or 1, gpus=gpus, half=precision("auto") == "bf16")


def _chosen(
    root: Path,
    wanted: Wanted,
    found: Found,
    machine: Machine,
    networks: list[Network],
    tell: Callable[[str], None],
) -> tuple[Choice, Rates]:
    """Measure one network after the other; return the first choice that fits, and its rates."""
    for network in networks:
        case = Case(
            wanted=wanted,
            photographs=found.usable,
            damaged=found.share_damaged,
            machine=machine,
            base=base_of(network, lambda name: _preset(root, name)),
            rates=UNMEASURED,
            work=NO_WORK,
        )
        first = draft(case)
        tell(f"measuring the network of preset {network.preset} on this machine, some seconds ...")
        load = workload(first, found.usable)
        rates = measure(first, found.rate)
        work = Work(window=load.train_flops, sample=load.sample_flops)
        try:
            return choose(replace(case, rates=rates, work=work), network), rates
        except PatchDMError:
            if network is networks[-1]:
                raise
    raise AssertionError("unreachable")


def _fitted(choice: Choice, load: Workload) -> tuple[Choice, float, float]:
    """Let a choice fit the memory; return it, and the bytes that it takes of memory and disk.

    Raises:
        PatchDMError: the training does not fit.
    """
    found = peaks.peaks(choice.params, load.training_images)
    disk = disk_bytes("", choice.params, found, load.store_bytes)
    given = device_memory(None)
    if given is not None:
        choice = with_batch(choice, found.first, found.each, peaks.USABLE * given * 1e9)
        peaks.check_memory(choice.params, load.training_images, given)
        return choice, _most(choice, found), disk
    processes = choice.params.base.threads
    usable = peaks.USABLE * (total_memory() or math.inf) / processes - _PROCESS
    choice = with_batch(choice, found.first, found.each, usable)
    if (needed := _most(choice, found)) > usable:
        raise PatchDMError(
            f"--size: a run needs {processes * (needed + _PROCESS) / 1e9:.1f} GB of memory, "
            f"expected at most {processes * (usable + _PROCESS) / 1e9:.1f}: use a smaller size"
        )
    return choice, processes * (needed + _PROCESS), disk


def _most(choice: Choice, found: peaks.Peaks) -> float:
    """Return the bytes that a process takes at most."""
    return max(found.training, found.sheet, found.sampling(choice.params.sample.batch_size))


def _about(choice: Choice, rates: Rates, images: int, disk: float, memory: float) -> Iterator[str]:
    """Say what was chosen, how long it takes, how much room, and what to expect."""
    params, network = choice.params, choice.network
    windows, total = params.train.images_seen, sum(choice.seconds.values())
    yield (
        f"network of preset {network.preset}: {params.cols}x{params.rows} patches of "
        f"{network.patch_size}, {rates.windows:,.0f} windows/s measured"
    )
    if network.patch_size < BEST_PATCH <= min(params.data.width, params.data.height) // 2:
        near = (
            BEST_PATCH * round(side / BEST_PATCH)
            for side in (params.data.width, params.data.height)
        )
        yield (
            f"  patches of {BEST_PATCH} see more of an image at once; they fit multiples of it, "
            f"such as {'x'.join(map(str, near))}"
        )
    yield f"{windows:,} windows of {images:,} training images, {params.data.views} a photograph"
    unit, name_of_unit = (3600, "h") if total > 2 * 3600 else (60, "min")
    for name, seconds in [*choice.seconds.items(), ("all", total)]:
        yield f"  {name:18}{seconds / unit:8.1f} {name_of_unit}"
    yield f"  {'disk':18}{disk / 1e9:8.1f} GB, with DVC's cache"
    yield f"  {'memory':18}{memory / 1e9:8.1f} GB"
    yield from expected(network, windows)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > 1.5 * params.base.threads:
        yield (
            f"this machine is busy (load {load:.1f}): the rates were measured beside other work, "
            "and are higher when it ends"
        )


def expected(network: Network, windows: int) -> Iterator[str]:
    """Say what quality to expect, from what was measured of the network."""
    known = network.known
    if known is None:
        yield (
            "quality: nothing was measured of this network at such a budget; the paper's models "
            "took 20 to 120 million windows"
        )
        return
    share = windows / known.windows
    yield (
        f"quality: preset {network.preset} reached FID {known.fid:g} (EffNetLite0) after "
        f"{known.windows:,} windows of {known.photographs} landscapes at {known.size}; blurred "
        f"photographs have {known.blurred:g}, unseen ones {known.held_out:g}"
    )
    if share >= 0.9:
        words = "as good, if your photographs are as alike as landscapes are"
    elif share >= 0.4:
        words = "nearly as good: the demo's network was past half of its way from blur after 0.4"
    elif share >= 0.15:
        words = "layout and colours that fit, soft detail"
    else:
        words = "colours and large shapes only"
    yield f"  this run trains {share:.2f} times as long: {words}. Not measured on your photographs"


def _data(root: Path, wanted: Wanted) -> Data:
    """Return section data while the folder is looked at."""
    values = dict(_preset(root, "showcase")["data"])
    values |= {"source": "folder", "location": wanted.location, "damaged_fraction": _DAMAGED}
    return Data.model_validate(values | {"width": wanted.width, "height": wanted.height})


def _preset(root: Path, name: str) -> Any:
    return YAML(typ="safe", pure=True).load(root / "presets" / f"{name}.yaml")


def _lay_out(root: Path, folder: Path, params: str) -> None:
    """Clone the repository to the folder, as flows do for a preset."""
    command = [sys.executable, "-m", "pipelines.fitted", "lay-out", str(folder.resolve())]
    done = subprocess.run(  # noqa: S603 - fixed
        command, cwd=root, input=params, capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"{folder}: could not be written"]
        raise PatchDMError(lines[-1].removeprefix("error: "))
