"""Files of tensors under their own names, one tensor at a time: safetensors, and GGUF and torch's own memory-mapped."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from torch import Tensor

from unisync.errors import WeightsError

WORDS = {
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float8_e4m3fn: "fp8_e4m3fn",
    torch.float8_e5m2: "fp8_e5m2",
}
SAFETENSORS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
TORCH = (".ckpt", ".pt", ".pth")
ORIGINAL_SHAPE = "comfy.gguf.orig_shape."
"""Metadata of repacks that store a tensor in another shape than its own."""


class Store(Protocol):
    """One file. Names are the file's own."""

    path: Path
    shapes: Mapping[str, tuple[int, ...]]

    def dtype(self, name: str) -> torch.dtype:
        """Return the dtype in which `tensor` gives it."""

    def word(self, name: str) -> str:
        """Return how it is stored: bf16, fp16, fp32, fp8_e4m3fn, Q8_0, ..."""

    def tensor(self, name: str) -> Tensor:
        """Return the tensor on the CPU, quantised blocks undone. Raises WeightsError if it cannot be read."""


def open_store(path: Path) -> Store:
    """Open a file by its suffix. Raises WeightsError if it is missing, damaged or of another kind."""
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    try:
        if path.suffix == ".safetensors":
            return SafetensorsStore(path)
        if path.suffix == ".gguf":
            return GgufStore(path)
        if path.suffix in TORCH:
            return TorchStore(path)
    except WeightsError:
        raise
    except Exception as error:  # a damaged file raises whatever its bytes happen to say
        if wants_memory(error):
            raise _too_large(path) from error
        first = next(iter(str(error).splitlines()), "")
        raise WeightsError(
            f"{path}: the weights file is damaged ({type(error).__name__}: {first}); get it again"
        ) from error
    raise WeightsError(f"{path}: is no weights file; .safetensors, .gguf, {', '.join(TORCH)} are read")


def wants_memory(error: Exception) -> bool:
    """Return whether an error is for want of memory, or of addresses to map a file to; torch says it in words."""
    said = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or getattr(error, "errno", None) == errno.ENOMEM
        or "cannot allocate memory" in said
        or "can't allocate memory" in said
    )


def _too_large(path: Path) -> WeightsError:
    size = f"{path.stat().st_size / 1e9:.1f} GB"
    return WeightsError(
        f"{path}: this process may not take the memory to read its {size}; the file need not be damaged: "
        "close other programs, or allow it more ('ulimit -v', or the container's limit)"
    )


class SafetensorsStore:
    """A safetensors file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # As torch maps a file, all of it counts as memory that may be written to: one larger than the machine's is refused.
        with safe_open(path, framework="np") as file:
            self.metadata: dict[str, str] = file.metadata() or {}
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            self.shapes: Mapping[str, tuple[int, ...]] = {
                name: tuple(part.get_shape()) for name, part in slices.items()
            }
            self._kinds = {name: part.get_dtype() for name, part in slices.items()}
        with path.open("rb") as plain:
            length = int.from_bytes(plain.read(8), "little")
            header = json.loads(plain.read(length))
        self._places = {name: [8 + length + at for at in header[name]["data_offsets"]] for name in self.shapes}

    def dtype(self, name: str) -> torch.dtype:
        if (kind := self._kinds[name]) not in SAFETENSORS:
            raise WeightsError(
                f"{self.path}: {name!r} is stored as {kind}, which is not read; take bf16, fp16, fp8 or GGUF"
            )
        return SAFETENSORS[kind]

    def word(self, name: str) -> str:
        return WORDS.get(self.dtype(name), self._kinds[name].lower())

    def tensor(self, name: str) -> Tensor:
        begin, end = self._places[name]
        try:
            data = bytearray(end - begin)
            with self.path.open("rb") as file:
                file.seek(begin)
                if file.readinto(data) < len(data):
                    raise OSError("the file has become shorter")
        except (OSError, MemoryError) as error:
            if wants_memory(error):
                raise _too_large(self.path) from error
            raise WeightsError(f"{self.path}: {name!r} cannot be read ({error}); get the file again") from error
        if not data:
            return torch.empty(self.shapes[name], dtype=self.dtype(name))
        return torch.frombuffer(data, dtype=self.dtype(name)).view(self.shapes[name])


class GgufStore:
    """A GGUF file; its blocks of quantised weights are undone tensor by tensor."""

    def __init__(self, path: Path) -> None:
        try:
            import gguf
        except ImportError as error:
            raise WeightsError(f"{path}: reading GGUF needs the gguf package: pip install 'unisync[wan]'") from error
        self.path = path
        self._gguf: Any = gguf
        reader = gguf.GGUFReader(path)
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        shapes: dict[str, tuple[int, ...]] = {}
        for name, tensor in self._tensors.items():
            field = reader.get_field(ORIGINAL_SHAPE + name)
            sizes = [field.parts[i][0] for i in field.data] if field else reversed(tensor.shape.tolist())
            shapes[name] = tuple(int(size) for size in sizes)
        self.shapes: Mapping[str, tuple[int, ...]] = shapes

    def dtype(self, name: str) -> torch.dtype:
        return {"F16": torch.float16, "BF16": torch.bfloat16}.get(self._kind(name), torch.float32)

    def word(self, name: str) -> str:
        return {"F32": "fp32", "F16": "fp16", "BF16": "bf16"}.get(self._kind(name), self._kind(name))

    def tensor(self, name: str) -> Tensor:
        stored = self._tensors[name]
        try:
            values = self._gguf.quants.dequantize(stored.data, stored.tensor_type)
        except NotImplementedError as error:
            raise WeightsError(
                f"{self.path}: {name!r} is stored as {self._kind(name)}, which the gguf package does not undo; take Q8_0"
            ) from error
        return torch.tensor(values).to(self.dtype(name)).view(self.shapes[name])  # a copy: the file's own is read-only

    def _kind(self, name: str) -> str:
        return str(self._tensors[name].tensor_type.name)


class TorchStore:
    """A torch checkpoint, in which dictionaries may hold dictionaries; nothing in it is run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tensors = dict(_flat(torch.load(path, map_location="cpu", weights_only=True, mmap=True)))
        self.shapes: Mapping[str, tuple[int, ...]] = {
            name: tuple(tensor.shape) for name, tensor in self._tensors.items()
        }

    def dtype(self, name: str) -> torch.dtype:
        return self._tensors[name].dtype

    def word(self, name: str) -> str:
        return WORDS.get(self.dtype(name), str(self.dtype(name)).removeprefix("torch."))

    def tensor(self, name: str) -> Tensor:
        return self._tensors[name]


def read_json(path: Path) -> dict[str, Any]:
    """Return a file's JSON object. Raises WeightsError."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read as JSON ({error}); get it again") from error
    if not isinstance(found, dict):
        raise WeightsError(f"{path}: is no JSON object; get it again")
    return found


def _flat(found: Any, place: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(found, Tensor):
        yield place[:-1], found
    elif isinstance(found, Mapping):
        for name, value in found.items():
            yield from _flat(value, f"{place}{name}.")
