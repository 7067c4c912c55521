"""LoRA dialects: the same change written in each is read as the same, and what is no LoRA is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import sqrt
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from unisync.errors import WeightsError
from unisync.nets.wan.families import family_shapes
from unisync.nets.wan.lora_files import Delta, deltas, read_lora, shapes_of
from unisync.nets.wan.names import to_diffusers
from unisync.nets.wan.recognise import check_pair, recognise

State = dict[str, Tensor]
RANK = 4
MODULES = ("blocks.0.self_attn.q", "blocks.12.cross_attn.o", "blocks.3.ffn.0", "text_embedding.2", "head.head")
ALPHAS = {module: float(i + 1) for i, module in enumerate(MODULES)}


def changes() -> dict[str, tuple[Tensor, Tensor]]:
    """Return down and up of each module."""
    draw = torch.Generator().manual_seed(0)
    return {m: (torch.randn(RANK, 16, generator=draw), torch.randn(8, RANK, generator=draw)) for m in MODULES}


def peft(prefix: str, adapter: str = "", name: Callable[[str], str] = str) -> State:
    found = {}
    for module, (down, up) in changes().items():
        found[f"{prefix}{name(module)}.lora_A{adapter}.weight"] = down
        found[f"{prefix}{name(module)}.lora_B{adapter}.weight"] = up
    return found


def kohya(prefix: str, name: Callable[[str], str], alpha: bool = True) -> State:
    found = {}
    for module, (down, up) in changes().items():
        found[f"{prefix}{name(module)}.lora_down.weight"] = down
        found[f"{prefix}{name(module)}.lora_up.weight"] = up
        if alpha:
            found[f"{prefix}{name(module)}.alpha"] = torch.tensor(ALPHAS[module])
    return found


def flat(module: str) -> str:
    return module.replace(".", "_")


PLAIN = {
    "none": peft(""),
    "diffusion_model": peft("diffusion_model."),
    "model.diffusion_model": peft("model.diffusion_model."),
    "diffusers": peft("transformer.", name=to_diffusers),
    "pipe.dit": peft("pipe.dit.", ".default"),
    "default": peft("", ".default"),
    "peft": peft("base_model.model."),
    "peft of diffusers": peft("base_model.model.transformer.", ".default", to_diffusers),
    "talkverse": peft("model."),
    "kohya without alpha": kohya("diffusion_model.", str, alpha=False),
}
SCALED = {
    "kohya": kohya("diffusion_model.", str),
    "lora_unet": kohya("lora_unet_", flat),
    "lora_unet of diffusers": kohya("lora_unet_", lambda module: flat(to_diffusers(module))),
    "lora_unet_": kohya("lora_unet__", flat),
    "lycoris": kohya("lycoris_", flat),
}


def check(found: dict[str, Delta], scale: Callable[[str], float]) -> None:
    assert list(found) == sorted(MODULES)
    for module, (down, up) in changes().items():
        delta = found[module]
        assert delta.shape == (8, 16) and delta.diff_b is None
        torch.testing.assert_close(delta.weight(), up @ down * scale(module))
        assert delta.weight(torch.bfloat16).dtype == torch.bfloat16


@pytest.mark.parametrize("dialect", PLAIN)
def test_a_missing_alpha_means_scale_1(tmp_path: Path, dialect: str) -> None:
    save_file(PLAIN[dialect], tmp_path / "x.safetensors")
    check(read_lora(tmp_path / "x.safetensors"), lambda _: 1.0)


@pytest.mark.parametrize("dialect", SCALED)
def test_alpha_is_over_the_rank(tmp_path: Path, dialect: str) -> None:
    save_file(SCALED[dialect], tmp_path / "x.safetensors")
    check(read_lora(tmp_path / "x.safetensors"), lambda module: ALPHAS[module] / RANK)


@pytest.mark.parametrize("root", [False, True])
def test_a_peft_folder_says_its_alpha(tmp_path: Path, root: bool) -> None:
    save_file(peft("base_model.model."), tmp_path / "adapter_model.safetensors")
    config = {"r": RANK, "lora_alpha": 6, "use_rslora": root, "alpha_pattern": {"self_attn.q": 2}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    rank = sqrt(RANK) if root else RANK
    check(read_lora(tmp_path), lambda module: (2 if module.endswith("self_attn.q") else 6) / rank)


def test_diffusers_metadata_say_their_alpha(tmp_path: Path) -> None:
    said = json.dumps({"transformer.r": RANK, "transformer.lora_alpha": 6, "transformer.use_rslora": True})
    save_file(
        peft("transformer.", name=to_diffusers), tmp_path / "x.safetensors", metadata={"lora_adapter_metadata": said}
    )
    check(read_lora(tmp_path / "x.safetensors"), lambda _: 6 / sqrt(RANK))


def test_ours_say_their_alpha(tmp_path: Path) -> None:
    said = json.dumps({"kind": "lora", "part": "transformer", "lora": {"r": RANK, "lora_alpha": 6.0}})
    save_file(peft("base_model.model."), tmp_path / "x.safetensors", metadata={"unisync": said})
    check(read_lora(tmp_path / "x.safetensors"), lambda _: 6 / RANK)


def test_an_alpha_in_the_file_goes_before_the_configuration() -> None:
    found = deltas(SCALED["kohya"], {"lora_alpha": 100, "use_rslora": True}, "x")
    check(found, lambda module: ALPHAS[module] / sqrt(RANK))


def test_convolutions_keep_their_kernel() -> None:
    down, up = torch.randn(2, 36, 1, 2, 2), torch.randn(8, 2, 1, 1, 1)
    delta = deltas({"patch_embedding.lora_A.weight": down, "patch_embedding.lora_B.weight": up}, {}, "x")[
        "patch_embedding"
    ]
    value = torch.randn(3, 36, 1, 2, 2)
    wanted = torch.nn.functional.conv3d(torch.nn.functional.conv3d(value, down), up)
    torch.testing.assert_close(torch.nn.functional.conv3d(value, delta.weight()), wanted, rtol=1e-4, atol=1e-4)


def test_whole_differences() -> None:
    diff, bias = torch.randn(8, 16), torch.randn(8)
    down, up = changes()[MODULES[0]]
    found = deltas(
        {
            "diffusion_model.blocks.0.norm3.diff": torch.ones(8),
            "diffusion_model.blocks.0.norm3.diff_b": bias,
            "diffusion_model.blocks.0.self_attn.k.diff_b": bias,
            "diffusion_model.blocks.0.self_attn.q.diff": diff,
            "diffusion_model.blocks.0.self_attn.q.lora_down.weight": down,
            "diffusion_model.blocks.0.self_attn.q.lora_up.weight": up,
            "diffusion_model.blocks.0.self_attn.q.alpha": torch.tensor(2.0),
        },
        {},
        "x",
    )
    assert torch.equal(found["blocks.0.norm3"].weight(), torch.ones(8))
    assert found["blocks.0.norm3"].diff_b is bias
    torch.testing.assert_close(found["blocks.0.self_attn.q"].weight(), diff + up @ down * 0.5)
    assert shapes_of(found) == {"blocks.0.norm3": (8,), "blocks.0.self_attn.k": None, "blocks.0.self_attn.q": (8, 16)}
    with pytest.raises(ValueError, match="bias alone"):
        found["blocks.0.self_attn.k"].weight()


def test_modulations_differ_as_bare_parameters() -> None:
    shapes = {"diffusion_model.blocks.0.diff_m": (1, 6, 5120), "diffusion_model.head.diff_m": (1, 2, 5120)}
    found = deltas({name: torch.ones(shape) for name, shape in shapes.items()}, {}, "x")
    assert shapes_of(found) == {"blocks.0.modulation": (1, 6, 5120), "head.modulation": (1, 2, 5120)}
    check_pair(recognise(family_shapes("wan2.1-t2v-14b")), lora=shapes_of(found))


def test_norms_change_places_with_diffusers() -> None:
    said = {"transformer.blocks.0.norm2.diff": torch.ones(8)}
    other = peft("transformer.", name=to_diffusers)
    assert "blocks.0.norm3" in deltas(said | other, {}, "x")
    assert list(deltas(said, {}, "x")) == ["blocks.0.norm2"]  # alone it does not tell whose name it is


def test_a_lora_of_another_size_does_not_go_with_a_transformer() -> None:
    transformer = recognise(family_shapes("wan2.1-t2v-14b"))
    for width in (5120, 3072):
        down, up = torch.zeros(2, width), torch.zeros(width, 2)
        found = deltas({"blocks.0.self_attn.q.lora_A.weight": down, "blocks.0.self_attn.q.lora_B.weight": up}, {}, "x")
        if width == transformer.width:
            check_pair(transformer, lora=shapes_of(found))
            continue
        with pytest.raises(WeightsError, match=r"is \(3072, 3072\) and .* is \(5120, 5120\); it was made for another"):
            check_pair(transformer, lora=shapes_of(found))


def test_whole_tensors_may_stand_beside(tmp_path: Path) -> None:
    save_file(peft("model.") | {"trainable_cond_mask.weight": torch.zeros(3, 8)}, tmp_path / "x.safetensors")
    check(read_lora(tmp_path / "x.safetensors", beside=True), lambda _: 1.0)
    with pytest.raises(WeightsError, match="1 of 11 names are in no known LoRA dialect, 'trainable_cond_mask"):
        read_lora(tmp_path / "x.safetensors")


A, B = "blocks.0.ffn.0.lora_A.weight", "blocks.0.ffn.0.lora_B.weight"


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "holds no LoRA tensors"),
        ({f"x.hada_w{i}_a": torch.zeros(1) for i in range(5)}, r"5 of 5 names .* 'x\.hada_w0_a', .* and 2 more"),
        ({"lora_unet_double_blocks_0.lora_down.weight": torch.zeros(1, 1)}, "1 of 1 names are in no known"),
        ({"lora_te_text.lora_down.weight_": torch.zeros(1)}, "in no known LoRA dialect"),
        ({A: torch.zeros(2, 3)}, "has lora_A and no lora_B"),
        ({B: torch.zeros(3, 2)}, "has lora_B and no lora_A"),
        ({A: torch.zeros(2, 3), B: torch.zeros(3, 4)}, r"\(2, 3\) and \(3, 4\), are of no one rank"),
        ({A: torch.zeros(2), B: torch.zeros(3, 2)}, "are of no one rank"),
        ({A: torch.zeros(2, 3), f"transformer.{A}": torch.zeros(2, 3)}, "twice, once as 'transformer"),
        ({"blocks.0.ffn.0.alpha": torch.tensor(1.0)}, "has an alpha and nothing to scale"),
        (
            {A: torch.zeros(2, 3), B: torch.zeros(3, 2), "blocks.0.ffn.0.diff": torch.zeros(2)},
            "another shape than its LoRA",
        ),
    ],
)
def test_what_is_no_lora_is_refused(tensors: State, message: str) -> None:
    with pytest.raises(WeightsError, match=f"x: .*{message}"):
        deltas(tensors, {}, "x")


@pytest.mark.parametrize("config", [{"lora_alpha": "much"}, {"alpha_pattern": [1]}])
def test_configurations_without_sense_are_refused(config: dict[str, object]) -> None:
    with pytest.raises(WeightsError, match="x: its LoRA configuration makes no sense"):
        deltas(PLAIN["peft"], config, "x")


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file(PLAIN["peft"], path, metadata={"lora_adapter_metadata": "{"})
    with pytest.raises(WeightsError, match=r"x\.safetensors: its LoRA metadata are damaged"):
        read_lora(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsError, match=r"x\.safetensors: the weights file is damaged"):
        read_lora(path)
    with pytest.raises(WeightsError, match=r"adapter_config\.json: cannot be read"):
        read_lora(tmp_path)
