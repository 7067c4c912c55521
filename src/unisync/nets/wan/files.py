"""A transformer's weights as one set of tensors by Wan's names, whatever files and precision they come in."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from math import prod
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from unisync.errors import WeightsError
from unisync.nets.wan.names import canonical, layout_of
from unisync.nets.wan.recognise import COMPANION, Recognised, recognise, some
from unisync.nets.wan.stores import TORCH, GgufStore, Store, open_store, read_json

INDEX = ".safetensors.index.json"
SCALES = ("scale_weight", "weight_scale")
FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)
SHARD = re.compile(r"(.+)-(\d+)-of-(\d+)\.safetensors")


class WeightFiles:
    """Tensors by Wan's names, read when asked for, one at a time. fp8 with scales and GGUF come out multiplied."""

    def __init__(self, path: Path) -> None:
        """Open a file, an index of shards, a folder with either, or diffusers' folder of a whole pipeline.

        Only the headers are read.  Raises WeightsError if a part is missing or damaged.
        """
        self.path = path
        self._places = _places(path)
        self.layout = layout_of(raw for raw in self._places if not COMPANION.fullmatch(raw))
        self._raw: dict[str, str] = {}
        for raw in self._places:
            if COMPANION.fullmatch(raw):
                continue
            name = canonical(raw, self.layout)
            if name in self._raw:
                raise WeightsError(
                    f"{path}: holds {name!r} twice, as {self._raw[name]!r} and {raw!r}; give one model alone"
                )
            self._raw[name] = raw
        self._scales = {name: scale for name, raw in self._raw.items() if (scale := self._scale_of(raw))}
        self._check_quantised()

    def names(self) -> list[str]:
        """Return the tensors' names, in the files' order."""
        return list(self._raw)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape. Raises WeightsError if there is none of that name."""
        raw, store = self._find(name)
        return store.shapes[raw]

    def dtype(self, name: str) -> torch.dtype:
        """Return the dtype in which `tensor` gives it if none is asked for: float32 for what scales or blocks undo."""
        raw, store = self._find(name)
        return torch.float32 if name in self._scales else store.dtype(raw)

    def tensor(self, name: str, dtype: torch.dtype | None = None) -> Tensor:
        """Return a tensor on the CPU. Raises WeightsError if it is not there or cannot be read."""
        raw, store = self._find(name)
        value = store.tensor(raw)
        if scale_name := self._scales.get(name):
            scale = self._places[scale_name].tensor(scale_name).float()
            if scale.numel() == len(value):  # one scale a row
                scale = scale.reshape(-1, *[1] * (value.ndim - 1))
            value = value.float() * scale
        return value if dtype is None else value.to(dtype)

    def quantised(self, name: str) -> tuple[Tensor, Tensor] | None:
        """Return a matrix in fp8 as it lies in the file and its scales, float32 (rows, 1) or (1, 1); None: it is not so."""
        raw, store = self._find(name)
        if store.dtype(raw) not in FP8:
            return None
        scale = torch.ones(1)
        if scale_name := self._scales.get(name):
            scale = self._places[scale_name].tensor(scale_name).float()
        return store.tensor(raw), scale.reshape(-1, 1)

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Every tensor's shape by its name in the file, companions too, as `recognise` takes them."""
        return MappingProxyType({raw: store.shapes[raw] for raw, store in self._places.items()})

    @property
    def precision(self) -> str:
        """How most of the weights are stored: bf16, fp16, fp32, fp8, fp8-scaled, gguf-Q8_0, ..."""
        sizes: Counter[str] = Counter()
        for name, raw in self._raw.items():
            store = self._places[raw]
            word = store.word(raw)
            if isinstance(store, GgufStore):
                word = f"gguf-{word}"
            elif word.startswith("fp8"):
                word = "fp8-scaled" if name in self._scales else "fp8"
            sizes[word] += prod(store.shapes[raw])
        return sizes.most_common(1)[0][0]

    def recognise(self) -> Recognised:
        """Return which model this is. Raises WeightsError if it is none that is known."""
        return recognise(self.shapes, self.path)

    def _find(self, name: str) -> tuple[str, Store]:
        if name not in self._raw:
            raise WeightsError(f"{self.path}: has no tensor {name!r}; it is another model's or not all of it is here")
        raw = self._raw[name]
        return raw, self._places[raw]

    def _scale_of(self, raw: str) -> str | None:
        if not raw.endswith("weight"):
            return None
        module = raw.removesuffix("weight")
        return next((f"{module}{end}" for end in SCALES if f"{module}{end}" in self._places), None)

    def _check_quantised(self) -> None:
        for raw, store in self._places.items():
            if raw.endswith(".comfy_quant"):
                text = bytes(store.tensor(raw).tolist())
                try:
                    kind = str(json.loads(text)["format"])
                except (ValueError, KeyError, TypeError) as error:
                    raise WeightsError(
                        f"{store.path}: {raw!r} does not say how its weight is stored; get it again"
                    ) from error
                if kind not in ("float8_e4m3fn", "float8_e5m2"):
                    raise WeightsError(
                        f"{store.path}: {raw!r} is {kind}, which is not read; take bf16, fp16, fp8 or GGUF"
                    )
        for name, scale in self._scales.items():
            raw, store = self._find(name)
            size = prod(self._places[scale].shapes[scale])
            if size not in (1, store.shapes[raw][0]):
                raise WeightsError(
                    f"{store.path}: {scale!r} has {size} scales, neither one nor one a row; take bf16, fp16, fp8 or GGUF"
                )
            if store.dtype(raw) not in FP8:
                raise WeightsError(
                    f"{store.path}: {raw!r} has a scale but is stored as {store.word(raw)}; take bf16, fp16, fp8 or GGUF"
                )


def _places(path: Path) -> dict[str, Store]:
    """Return the store of every tensor, by the tensor's name in the file."""
    if not path.exists():
        raise WeightsError(f"{path}: no such weights file or folder")
    if path.is_dir():
        return _folder(path)
    if path.name.endswith(INDEX):
        return _indexed(path)
    return _merged([open_store(path)])


def _folder(path: Path) -> dict[str, Store]:
    if (path / "transformer").is_dir():
        path = path / "transformer"
    if indices := sorted(path.glob(f"*{INDEX}")):
        return _indexed(_only(indices, path))
    files = sorted(file for end in (".safetensors", ".gguf", *TORCH) for file in path.glob(f"*{end}"))
    if not files:
        raise WeightsError(f"{path}: has neither weights nor an index of shards in it; give the model's own folder")
    if shard := SHARD.fullmatch(files[0].name):
        stem, num = shard[1], int(shard[3])
        wanted = [path / f"{stem}-{i:0{len(shard[2])}}-of-{shard[3]}.safetensors" for i in range(1, num + 1)]
        _all_there(wanted, path)
        return _merged([open_store(file) for file in wanted])
    return _merged([open_store(_only(files, path))])


def _indexed(index: Path) -> dict[str, Store]:
    listed = read_json(index).get("weight_map")
    if not isinstance(listed, dict) or not listed or not all(isinstance(file, str) for file in listed.values()):
        raise WeightsError(f"{index}: lists no shards under 'weight_map'; get it again")
    names = sorted(set(listed.values()))
    if any(Path(name).name != name for name in names):
        raise WeightsError(f"{index}: names shards outside its own folder; get it again")
    _all_there([index.parent / name for name in names], index)
    places = _merged([open_store(index.parent / name) for name in names])
    for name, file in listed.items():
        if name not in places or places[name].path.name != file:
            raise WeightsError(f"{index.parent / file}: lacks {name!r}, which {index.name} says it holds; get it again")
    return places


def _merged(stores: list[Store]) -> dict[str, Store]:
    places: dict[str, Store] = {}
    for store in stores:
        for name in store.shapes:
            if name in places:
                raise WeightsError(
                    f"{store.path}: holds {name!r}, and so does {places[name].path}; give one model alone"
                )
            places[name] = store
    if not any(not COMPANION.fullmatch(name) for name in places):
        raise WeightsError(f"{stores[0].path}: holds no weights; get it again")
    return places


def _all_there(files: list[Path], place: Path) -> None:
    if missing := [file.name for file in files if not file.is_file()]:
        raise WeightsError(
            f"{place}: {len(missing)} of {len(files)} shards are missing, {some(missing)}; get them as well"
        )


def _only(files: list[Path], place: Path) -> Path:
    if len(files) > 1:
        raise WeightsError(
            f"{place}: holds {some(file.name for file in files)}; give one of them instead of the folder"
        )
    return files[0]
