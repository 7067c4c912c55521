"""Public models as our transformer, and how their files fill it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from unisync.nets.patch import expand_patch_embedding
from unisync.nets.pose import PoseEncoder
from unisync.nets.storage import FP8, Fp8Linear, rounded, store_fp8
from unisync.nets.transformer import Transformer, TransformerConfig
from unisync.nets.wan.families import CLIP_WIDTH, FAMILIES, FREQUENCIES, TEXT_WIDTH, Audio, Size
from unisync.nets.wan.fantasytalking import FantasyTalking
from unisync.nets.wan.files import WeightFiles
from unisync.nets.wan.lora_files import Delta, read_lora, shapes_of
from unisync.nets.wan.multitalk import MultiTalk
from unisync.nets.wan.recognise import check_pair
from unisync.nets.wan.s2v import SpeechToVideo, TalkVerse
from unisync.nets.wan.xdub import XDub

FRAME_RATES = {
    "wan2.2-ti2v-5b": 24.0,
    "x-dub-5b": 25.0,
    "talkverse-5b": 25.0,
    "fantasytalking": 23.0,
    "multitalk": 25.0,
}
"""Film frames a second that a model was made for, where it is not Wan's 16."""
AUDIO_WIDTHS: dict[Audio, int] = {
    "k_proj": 768,
    "audio_cross_attn": 768,
    "audio_injector": 1024,
    "audio_attn": 1280 + 768,
}
INJECTED: dict[int, tuple[int, ...]] = {
    12: (0, 4, 8, 12, 16, 20, 24, 27, 30, 33, 36, 39),
    11: (0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 29),
}
"""Blocks whose outputs sound is laid over, by how many there are."""
POSE_GRID = (21, 30, 52)
"""Latent frames and rows and columns of tokens in 81 frames of 832 x 480."""
Changes = list[tuple[Mapping[str, Delta], float]]
"""Changes by modules' names, and how much of each is added."""
NEW = "pose_encoder."
"""What we add to a public model; its file does not have it."""


def config_of(family_key: str, size: Size | None = None, editing: bool = False) -> TransformerConfig:
    """Return the shape of a public model.

    size: another one, for tests.  editing: whether the source goes in beside the noisy latents (Eq 2) and a pose is
    followed (Eq 4-9), as UniSync trains them; else it is as published.
    """
    family = FAMILIES[family_key]
    size = size or family.size
    layers = tuple(range(size.layers))
    return TransformerConfig(
        channels=size.latents,
        editing=editing,
        extra=family.channels_in - family.size.latents,
        width=size.width,
        layers=size.layers,
        heads=size.heads,
        ffn=size.ffn,
        frequencies=FREQUENCIES,
        positions_per_second=FRAME_RATES.get(family_key, 16.0) / 4,
        text_width=TEXT_WIDTH,
        image_width=CLIP_WIDTH if family.clip else 0,
        audio_width=AUDIO_WIDTHS[family.audio] if family.audio else 0,
        audio_layers=tuple(i for i in INJECTED.get(family.injectors, layers) if i in layers),
        lip_width=0,
        pose_grid=POSE_GRID if editing and not family.pose else None,
    )


def network_of(family_key: str) -> type[Transformer]:
    """Return the class of a public model's network."""
    family = FAMILIES[family_key]
    match family.audio:
        case "k_proj":
            return FantasyTalking
        case "audio_cross_attn":
            return MultiTalk
        case "audio_injector":
            return SpeechToVideo if family.pose else TalkVerse
        case "audio_attn":
            return XDub
        case None:
            return Transformer


def transformer_of(family_key: str, size: Size | None = None, editing: bool = False) -> Transformer:
    """Return a public model's network, not yet filled; under `torch.device("meta")` it takes no memory."""
    return network_of(family_key)(config_of(family_key, size, editing))


@torch.no_grad()
def load_transformer(
    files: WeightFiles,
    adapter: WeightFiles | None = None,
    dtype: torch.dtype = torch.bfloat16,
    device: torch.device | str = "cpu",
    editing: bool = False,
    loras: Sequence[tuple[Mapping[str, Delta], float]] = (),
) -> Transformer:
    """Return the network that files hold, read a tensor at a time.

    adapter: what is added to them; where both have a tensor, the adapter's is taken.  dtype: fp8 (e4m3) is the blocks'
    matrices', as the file has them where it is in fp8, and all else is bf16 then.  editing: as `config_of` has it; what is
    new is born such that the network gives what it gave.  loras: changes, as `read_lora` has them, and how much of each is
    added.
    Raises WeightsError if the files do not go together or lack a tensor.
    """
    base = files.recognise()
    beside = adapter.recognise() if adapter else None
    changes: dict[str, Delta] = {}
    if adapter is not None and beside is not None and beside.lora:
        changes = read_lora(adapter.path, beside=True)
    check_pair(base, beside, shapes_of(changes) if changes else None)
    key = beside.family if beside else base.family
    with torch.device("meta"):
        net = transformer_of(key, editing=editing)
        if dtype == FP8:
            dtype = torch.bfloat16
            store_fp8(net)
    theirs = set(adapter.names()) if adapter else set()
    added: Changes = [(changes, 1.0), *((more, scale) for more, scale in loras if scale)]
    for name, empty in [*net.named_parameters(), *net.named_buffers()]:
        if name.startswith(NEW):
            continue
        store = adapter if adapter and name in theirs else files
        if isinstance(matrix := net.get_submodule(name.rpartition(".")[0]), Fp8Linear) and not name.endswith("bias"):
            if name.endswith("weight"):  # its scale comes with it
                _put_matrix(matrix, store, name, added, device)
            continue
        value = _all_changed(store.tensor(name), added, name)
        if name == "patch_embedding.weight":
            value = expand_patch_embedding(value, net.config.channels_in)
        # Copied even where nothing changes: a product's last bits depend on how its factors are aligned in memory, and
        # what is mapped from a file is aligned in any way.
        _put(net, name, value.to(device, dtype, copy=True), isinstance(empty, nn.Parameter))
    if net.config.pose_grid is not None:
        config = net.config
        net.pose_encoder = PoseEncoder(config.channels, config.width, config.patch, net.config.pose_grid)
        net.pose_encoder.to(device, dtype)
    return net


def _changed(value: Tensor, changes: Mapping[str, Delta], name: str, scale: float = 1.0) -> Tensor:
    """Return a tensor with `scale` times what a LoRA adds to it."""
    module, _, leaf = name.rpartition(".")
    delta = changes.get(module) or changes.get(name)
    if delta is None:
        return value
    if leaf == "bias":
        return value if delta.diff_b is None else value + scale * delta.diff_b.to(value.dtype)
    return value if delta.shape is None else (value.float() + scale * delta.weight().view_as(value)).to(value.dtype)


def _all_changed(value: Tensor, added: Changes, name: str) -> Tensor:
    """Return a tensor with all that is added to it."""
    for changes, scale in added:
        value = _changed(value, changes, name, scale)
    return value


def _put_matrix(matrix: Fp8Linear, store: WeightFiles, name: str, added: Changes, device: torch.device | str) -> None:
    """Fill a layer with what the file has in fp8, else with what rounding makes of it."""
    untouched = all(name.removesuffix(".weight") not in changes for changes, _ in added)
    kept = store.quantised(name) if untouched else None
    weight, scale = kept or rounded(_all_changed(store.tensor(name), added, name))
    matrix.weight = nn.Parameter(weight.to(device, copy=True), requires_grad=False)
    matrix.scale = scale.to(device)


def _put(net: nn.Module, name: str, value: Tensor, parameter: bool) -> None:
    """Let a value take an empty tensor's place."""
    module, _, leaf = name.rpartition(".")
    setattr(net.get_submodule(module), leaf, nn.Parameter(value) if parameter else value)
