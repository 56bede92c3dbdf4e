"""Read the weights of a Lightning checkpoint, and ignore all other pickled objects safely.

A pickle is a program: it names things to import and to call. Here it gets nothing real. A name
becomes a stand-in that does nothing, except the few that build a tensor, which become descriptions
of it. So the other objects of a checkpoint (callbacks, optimizers, schedulers) are ignored, and
their packages need not be installed. `torch.load` with `weights_only=True` runs nothing either,
but it refuses such files completely.
"""

from __future__ import annotations

import math
import pickle
import sys
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from patchdm.errors import PatchDMError, one_line

DTYPES = {
    "BFloat16Storage": torch.bfloat16,
    "BoolStorage": torch.bool,
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
}
DATA_MODULES = {
    "_codecs", "argparse", "collections", "copyreg", "datetime", "decimal", "enum", "fractions",
    "functools", "pathlib", "random", "types", "uuid",
}  # fmt: skip
"""Standard modules whose objects are data; a call into another one is meant to run code."""
DATA_BUILTINS = {
    "bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "object",
    "range", "set", "slice", "str", "tuple",
}  # fmt: skip

DAMAGE = (
    ArithmeticError, AttributeError, EOFError, LookupError, RuntimeError, TypeError, ValueError,
)  # fmt: skip
"""Errors of a pickle that is damaged, or not written by torch.save."""


def read_lightning(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read weights and hyper-parameters of a checkpoint, or a bare state dict, of torch.save.

    Raises:
        PatchDMError: the file cannot be read, is no checkpoint, or its pickle calls a function.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            program = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            with archive.open(program) as file:
                content = _Unpickler(file).load()
            weights = {
                key: value.read(archive, program) if isinstance(value, _Stored) else value
                for key, value in content.get("state_dict", content).items()
            }
            return weights, dict(content.get("hyper_parameters", {}))
    except OSError as error:
        raise PatchDMError(f"{path}: cannot be read: {error.strerror}") from None
    except (zipfile.BadZipFile, StopIteration):
        raise PatchDMError(f"{path}: not written by torch.save (1.6 or later)") from None
    except pickle.UnpicklingError as error:
        raise PatchDMError(f"{path}: refused: {error}") from None
    except DAMAGE as error:
        raise PatchDMError(f"{path}: no checkpoint: {one_line(error)}") from None


@dataclass(frozen=True)
class _Stored:
    """A tensor, still in the archive."""

    storage: tuple[str, str]
    """Class name of the storage and its file."""
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def read(self, archive: zipfile.ZipFile, program: str) -> Tensor:
        """Read the tensor's bytes, a file next to the pickle."""
        kind, name = self.storage
        data = bytearray(archive.read(f"{program.removesuffix('data.pkl')}data/{name}"))
        flat = torch.frombuffer(data, dtype=DTYPES[kind]) if data else torch.empty(0)
        if math.prod(self.size) > len(flat):  # strides of 0 make any size of one number
            raise ValueError(f"storage {name} holds {len(flat)} numbers, expected {self.size}")
        return flat.as_strided(self.size, self.stride, self.offset).contiguous()


class _Builder:
    """A function that a pickle may call to get a tensor; no dict, so it cannot be altered."""

    __slots__ = ()


class _BuildTensor(_Builder):
    __slots__ = ()

    def __call__(self, *arguments: Any) -> _Stored:
        return _Stored(*arguments[:4])


class _BuildParameter(_Builder):
    __slots__ = ()

    def __call__(self, tensor: _Stored, *_: object) -> _Stored:
        return tensor


BUILDERS = {"_rebuild_tensor_v2": _BuildTensor, "_rebuild_parameter": _BuildParameter}


class _Unpickler(pickle.Unpickler):
    """An unpickler that imports nothing: `find_class` never calls the original."""

    def find_class(self, module: str, name: str) -> Any:
        # Protocol 2, which torch.save writes, has the names of Python 2.
        module, name = NAME_MAPPING.get((module, name), (module, name))
        module = IMPORT_MAPPING.get(module, module)
        if module == "torch._utils" and name in BUILDERS:
            return BUILDERS[name]()
        if module == "torch" and name.endswith("Storage"):
            return name
        return _InertType(name, (_Inert,), {"__module__": module})

    def persistent_load(self, pid: Any) -> tuple[str, str]:
        match pid:
            case ("storage", str(kind), str(name), _, _):
                return kind, name
        raise pickle.UnpicklingError(f"unknown storage {pid!r:.80}")


class _InertType(type):
    """Type of the stand-ins. A call makes an instance, or is refused if it is meant to run code."""

    def __call__(cls, *_: object) -> Any:
        if not _means_data(cls.__module__, cls.__name__):
            raise pickle.UnpicklingError(f"its pickle calls {cls.__module__}.{cls.__name__}")
        return cls.__new__(cls)  # type: ignore[call-overload]


class _Inert(dict[Any, Any], metaclass=_InertType):
    """Stand-in for a name; its instances replace objects and keep only dict items."""

    __hash__ = object.__hash__  # type: ignore[assignment]  # callbacks may be keys

    def __new__(cls, *_: object) -> Self:
        return dict.__new__(cls)

    def __setstate__(self, state: object = None) -> None:
        """Drop the state; also called on the stand-in itself, which thus cannot be altered."""

    def append(self, item: object) -> None:
        """Drop the item."""

    def extend(self, items: Iterable[object]) -> None:
        """Drop the items."""


def _means_data(module: str, name: str) -> bool:
    """Guess whether calling a name creates data: it looks like a class, or is of a data module.

    A wrong guess is harmless: an accepted call does nothing either.
    """
    package = module.partition(".")[0]
    if package == "builtins":
        return name in DATA_BUILTINS
    if package in sys.stdlib_module_names:
        return package in DATA_MODULES
    return package in {"numpy", "torch"} or name.lstrip("_")[:1].isupper()
