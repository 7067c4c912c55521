"""Files: every layout and precision gives the same tensors by the same names; what is damaged is named."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Mapping
from math import prod
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from unisync.errors import WeightsError
from unisync.nets.wan.families import family_shapes
from unisync.nets.wan.files import WeightFiles
from unisync.nets.wan.names import to_diffusers
from unisync.nets.wan.stores import open_store

State = dict[str, Tensor]
QUERY = "blocks.0.self_attn.q.weight"


@pytest.fixture
def state() -> State:
    draw = torch.Generator().manual_seed(0)
    shapes = {
        "patch_embedding.weight": (32, 4, 1, 2, 2),
        QUERY: (32, 64),
        "blocks.0.self_attn.q.bias": (32,),
        "blocks.0.norm3.weight": (32,),
        "blocks.0.modulation": (1, 6, 32),
        "head.modulation": (1, 2, 32),
        "text_embedding.0.weight": (32, 64),
    }
    return {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}


def check(found: WeightFiles, state: Mapping[str, Tensor], tolerance: float = 0.0) -> None:
    assert sorted(found.names()) == sorted(state)
    for name, value in state.items():
        assert found.shape(name) == value.shape
        given = found.tensor(name)
        assert given.dtype == found.dtype(name)
        torch.testing.assert_close(given.float(), value.float(), rtol=0, atol=tolerance)
        assert found.tensor(name, torch.float16).dtype == torch.float16


def diffusers(state: State) -> State:
    return {to_diffusers(name): value for name, value in state.items()}


def save_shards(folder: Path, state: State, stem: str = "diffusion_pytorch_model", index: bool = True) -> list[Path]:
    """Write three shards as both of the Hub's libraries do."""
    folder.mkdir(parents=True, exist_ok=True)
    names = list(state)
    files = [f"{stem}-{i + 1:05d}-of-00003.safetensors" for i in range(3)]
    for i, file in enumerate(files):
        save_file({name: state[name] for name in names[i::3]}, folder / file)
    if index:
        listed = {name: files[i % 3] for i, name in enumerate(names)}
        (folder / f"{stem}.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": listed}))
    return [folder / file for file in files]


def save_sparse(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Write a safetensors file of bf16 zeros, of which the disk holds the header alone."""
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
@pytest.mark.parametrize(
    ("dtype", "word"), [(torch.float32, "fp32"), (torch.float16, "fp16"), (torch.bfloat16, "bf16")]
)
def test_a_single_file(tmp_path: Path, state: State, prefix: str, dtype: torch.dtype, word: str) -> None:
    lower = {name: value.to(dtype) for name, value in state.items()}
    save_file({prefix + name: value for name, value in lower.items()}, tmp_path / "x.safetensors")
    found = WeightFiles(tmp_path / "x.safetensors")
    check(found, lower)
    assert found.precision == word
    check(WeightFiles(tmp_path), lower)  # the folder that it lies in alone


@pytest.mark.parametrize("stem", ["diffusion_pytorch_model", "model"])
def test_shards(tmp_path: Path, state: State, stem: str) -> None:
    save_shards(tmp_path, state, stem)
    check(WeightFiles(tmp_path), state)
    check(WeightFiles(tmp_path / f"{stem}.safetensors.index.json"), state)


def test_shards_without_an_index(tmp_path: Path, state: State) -> None:
    files = save_shards(tmp_path, state, index=False)
    check(WeightFiles(tmp_path), state)
    files[1].unlink()
    with pytest.raises(WeightsError, match=r"1 of 3 shards are missing, 'diffusion_pytorch_model-00002-of-00003"):
        WeightFiles(tmp_path)


def test_diffusers_folders(tmp_path: Path, state: State) -> None:
    save_shards(tmp_path / "transformer", diffusers(state))
    (tmp_path / "transformer" / "config.json").write_text('{"_class_name": "WanTransformer3DModel"}')
    for path in (tmp_path, tmp_path / "transformer"):
        found = WeightFiles(path)
        check(found, state)
        assert found.layout == "diffusers"


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_plain_fp8(tmp_path: Path, state: State, dtype: torch.dtype) -> None:
    lower = state | {name: value.to(dtype) for name, value in state.items() if name.endswith("weight")}
    save_file(lower, tmp_path / "x.safetensors")
    found = WeightFiles(tmp_path / "x.safetensors")
    check(found, lower)
    assert (found.precision, found.dtype(QUERY)) == ("fp8", dtype)


@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("end", ["scale_weight", "weight_scale"])
def test_scaled_fp8(tmp_path: Path, state: State, end: str, rows: bool) -> None:
    value = state[QUERY]
    peak = value.abs().amax(dim=1) if rows else value.abs().amax()
    scale = peak / 448
    stored = (value / (scale[:, None] if rows else scale)).to(torch.float8_e4m3fn)
    module = f"model.diffusion_model.{QUERY.removesuffix('weight')}"
    quantised = {f"model.diffusion_model.{name}": each for name, each in state.items()} | {
        f"{module}weight": stored,
        f"{module}{end}": scale,
        "model.diffusion_model.scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn),
        f"{module}comfy_quant": torch.tensor(list(b'{"format": "float8_e4m3fn"}'), dtype=torch.uint8),
    }
    save_file({name: each for name, each in quantised.items() if "patch" not in name}, tmp_path / "x.safetensors")
    found = WeightFiles(tmp_path / "x.safetensors")
    rest = {name: each for name, each in state.items() if "patch" not in name}
    assert sorted(found.names()) == sorted(rest)
    torch.testing.assert_close(found.tensor(QUERY), value, rtol=0.07, atol=float(peak.max()) / 448)
    product = stored.float() * (scale[:, None] if rows else scale)
    assert torch.equal(found.tensor(QUERY), product)
    assert torch.equal(found.tensor(QUERY, torch.bfloat16), product.bfloat16())
    assert found.dtype(QUERY) == torch.float32
    assert torch.equal(found.tensor("head.modulation"), state["head.modulation"])


def test_scaled_fp8_is_told_from_plain(tmp_path: Path, state: State) -> None:
    stored = {QUERY: state[QUERY].to(torch.float8_e4m3fn), "blocks.0.self_attn.q.scale_weight": torch.tensor(0.5)}
    save_file(stored, tmp_path / "x.safetensors")
    assert WeightFiles(tmp_path).precision == "fp8-scaled"


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (
            {"q.comfy_quant": torch.tensor(list(b'{"format": "nvfp4"}'), dtype=torch.uint8)},
            "is nvfp4, which is not read",
        ),
        ({"q.comfy_quant": torch.tensor([1, 2], dtype=torch.uint8)}, "does not say how its weight is stored"),
        ({"q.weight": torch.zeros(2, dtype=torch.int8), "q.weight_scale": torch.ones(1)}, "but is stored as i8"),
        (
            {"q.weight": torch.zeros(4, 4), "q.weight_scale": torch.ones(2, 1)},
            "has 2 scales, neither one nor one a row",
        ),
    ],
)
def test_other_quantisations_are_refused(tmp_path: Path, state: State, extra: State, message: str) -> None:
    save_file(state | extra, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match=rf"x\.safetensors: .*{message}"):
        WeightFiles(tmp_path)


@pytest.mark.parametrize(
    ("kind", "tolerance"), [("F32", 0.0), ("F16", 2e-3), ("BF16", 2e-2), ("Q8_0", 2e-2), ("Q4_0", 0.4)]
)
def test_gguf(tmp_path: Path, state: State, kind: str, tolerance: float) -> None:
    gguf = pytest.importorskip("gguf")
    wanted = gguf.GGMLQuantizationType[kind]
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "wan")
    for name, value in state.items():
        data = value.numpy()
        if name.startswith("patch"):  # repacks flatten what has more dimensions than the format
            writer.add_array(f"comfy.gguf.orig_shape.{name}", list(value.shape))
            data = data.reshape(-1, 32)
        one = wanted if value.ndim > 1 else gguf.GGMLQuantizationType.F32
        plain = {"F32": np.float32, "F16": np.float16}.get(one.name)
        if plain:
            writer.add_tensor(name, np.ascontiguousarray(data.astype(plain)))
        else:
            writer.add_tensor(name, gguf.quants.quantize(data, one), raw_dtype=one)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = WeightFiles(tmp_path / "x.gguf")
    check(found, state, tolerance)
    assert found.precision == {"F32": "gguf-fp32", "F16": "gguf-fp16", "BF16": "gguf-bf16"}.get(kind, f"gguf-{kind}")
    bytes_ = (tmp_path / "x.gguf").read_bytes()
    (tmp_path / "x.gguf").write_bytes(bytes_[: len(bytes_) // 2])
    with pytest.raises(WeightsError, match=r"x\.gguf: the weights file is damaged"):
        WeightFiles(tmp_path / "x.gguf")


def test_gguf_needs_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    with pytest.raises(
        WeightsError, match=r"x\.gguf: reading GGUF needs the gguf package: pip install 'unisync\[wan\]'"
    ):
        WeightFiles(tmp_path / "x.gguf")


def test_torchs_own_with_dictionaries_inside(tmp_path: Path) -> None:
    inside = {
        "proj_model": {"proj.weight": torch.randn(8, 4)},
        "audio_processor": {"blocks.0.cross_attn.processor.k_proj.weight": torch.randn(8, 8)},
    }
    torch.save(inside, tmp_path / "x.ckpt")
    wanted = {
        "proj_model.proj.weight": inside["proj_model"]["proj.weight"],
        "blocks.0.cross_attn.k_proj.weight": inside["audio_processor"]["blocks.0.cross_attn.processor.k_proj.weight"],
    }
    check(WeightFiles(tmp_path / "x.ckpt"), wanted)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    torch.save({"x": Path("/")}, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match=r"x\.pt: the weights file is damaged"):
        WeightFiles(tmp_path / "x.pt")


def test_a_large_model_is_recognised_from_its_headers(tmp_path: Path) -> None:
    shapes = {f"model.diffusion_model.{to_diffusers(n)}": s for n, s in family_shapes("wan2.1-t2v-1.3b").items()}
    save_sparse(tmp_path / "x.safetensors", shapes)
    found = WeightFiles(tmp_path / "x.safetensors")
    told = found.recognise()
    assert (told.family, told.layout, told.prefix) == ("wan2.1-t2v-1.3b", "diffusers", "model.diffusion_model.")
    assert found.precision == "bf16"
    assert not found.tensor("blocks.29.modulation").any()


def test_a_file_larger_than_the_machines_memory_is_read_a_tensor_at_a_time(tmp_path: Path) -> None:
    path, size = tmp_path / "large.safetensors", 1 << 40
    last = {"dtype": "F32", "shape": [2], "data_offsets": [size, size + 8]}
    header = json.dumps({"first": {"dtype": "BF16", "shape": [size // 2], "data_offsets": [0, size]}, "last": last})
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header.encode())
        file.seek(size, 1)
        file.write(struct.pack("<2f", 1.5, -2))
    store = open_store(path)
    assert store.shapes == {"first": (size // 2,), "last": (2,)} and store.word("first") == "bf16"
    assert store.tensor("last").tolist() == [1.5, -2]


def test_what_is_unknown_is_refused_by_its_path(tmp_path: Path, state: State) -> None:
    save_file(state, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match=r"x\.safetensors: is nearest to"):
        WeightFiles(tmp_path / "x.safetensors").recognise()
    with pytest.raises(WeightsError, match=r"x\.safetensors: has no tensor 'blocks\.9\.modulation'"):
        WeightFiles(tmp_path / "x.safetensors").tensor("blocks.9.modulation")


def test_shards_that_are_missing_or_damaged_are_named(tmp_path: Path, state: State) -> None:
    files = save_shards(tmp_path, state)
    whole = files[1].read_bytes()
    files[1].unlink()
    with pytest.raises(WeightsError, match=r"index\.json: 1 of 3 shards are missing, 'diffusion_pytorch_model-00002"):
        WeightFiles(tmp_path)
    files[1].write_bytes(whole[:-4])
    with pytest.raises(WeightsError, match=r"00002-of-00003\.safetensors: the weights file is damaged"):
        WeightFiles(tmp_path)
    files[1].write_bytes(files[0].read_bytes())
    with pytest.raises(WeightsError, match=r"00002-of-00003\.safetensors: holds '.*', and so does .*00001-of-00003"):
        WeightFiles(tmp_path)
    save_file({"blocks.1.modulation": torch.zeros(1)}, files[1])
    with pytest.raises(WeightsError, match=r"00002-of-00003\.safetensors: lacks '.*', which .*index\.json says"):
        WeightFiles(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "is no JSON object"),
        ('{"weight_map": {}}', "lists no shards"),
        ('{"weight_map": {"x": 1}}', "lists no shards"),
        ('{"weight_map": {"x": "../x.safetensors"}}', "outside its own folder"),
    ],
)
def test_damaged_indices_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.safetensors.index.json").write_text(text)
    with pytest.raises(WeightsError, match=rf"a\.safetensors\.index\.json: .*{message}"):
        WeightFiles(tmp_path)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux keeps to the limit")
@pytest.mark.parametrize("end", ["safetensors", "gguf", "pt"])
def test_a_file_that_finds_no_memory_is_not_called_damaged(tmp_path: Path, end: str) -> None:
    import resource

    path, size = tmp_path / f"large.{end}", 2**28
    if end == "pt":
        torch.save({"x": torch.zeros(size, dtype=torch.uint8)}, path)
    else:
        save_sparse(path, {"x": (size // 2,)})  # gguf's is mapped before anything in it is read
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + size // 2, hard))
    try:
        with pytest.raises(
            WeightsError, match=r"may not take the memory to read its 0\.3 GB; the file need not be damaged"
        ):
            WeightFiles(path)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def test_other_paths_are_refused(tmp_path: Path, state: State) -> None:
    with pytest.raises(WeightsError, match=r"a: no such weights file or folder"):
        WeightFiles(tmp_path / "a")
    with pytest.raises(WeightsError, match="has neither weights nor an index"):
        WeightFiles(tmp_path)
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(WeightsError, match=r"a\.txt: is no weights file; \.safetensors, \.gguf"):
        WeightFiles(tmp_path / "a.txt")
    save_file({"scaled_fp8": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match=r"a\.safetensors: holds no weights"):
        WeightFiles(tmp_path)
    save_file(state, tmp_path / "b.safetensors")
    with pytest.raises(WeightsError, match=r"holds 'a\.safetensors', 'b\.safetensors'; give one of them"):
        WeightFiles(tmp_path)
    save_file({QUERY: torch.zeros(1), f"diffusion_model.{QUERY}": torch.zeros(1)}, tmp_path / "c.safetensors")
    with pytest.raises(WeightsError, match=r"c\.safetensors: holds 'blocks\.0\.self_attn\.q\.weight' twice"):
        WeightFiles(tmp_path / "c.safetensors")
