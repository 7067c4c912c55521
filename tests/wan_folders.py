"""Whole folders of public models in small: the layouts of the published ones, random weights, two layers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from unisync.backbones import text
from unisync.backbones.wan import hearing
from unisync.nets.wan import families, models, multitalk, s2v
from unisync.nets.wan.families import FAMILIES, Family, Shapes, Size, family_shapes
from unisync.nets.wan.xdub import XDub
from wan_vae import nested, small_vae

CANVAS = 64
SIZES = {1536: Size(128, 2, 64, 16), 5120: Size(256, 2, 64, 16), 3072: Size(384, 2, 64, 48)}
"""By the published width; three, that wrong pairs can be told."""
WHISPER = 32
"""Width of Whisper's features where they are 1280."""
STATES = 3
"""Hidden states that are heard where the published models hear 12 or 25."""
FEWER = {
    "_multitalk": {5 * 12 * 768: 5 * STATES * 768, 8 * 12 * 768: 8 * STATES * 768},
    "_speech_to_video": {25: STATES},
    "_xdub": {1536: 64, 8 * 1536: 8 * 64, 4 * 1536: 4 * 64, 1280 + 768: WHISPER + 768},
}
"""Sizes of what hears, by the function of `families` that lists it."""


@contextmanager
def small_families() -> Iterator[None]:
    """Let every family be so small that whole folders can be written; channels of latents and features stay."""
    with pytest.MonkeyPatch.context() as patch:
        for key, family in FAMILIES.items():
            patch.setitem(FAMILIES, key, replace(family, size=SIZES[family.size.width]))
        for name, sizes in FEWER.items():
            patch.setattr(families, name, _shrunk(getattr(families, name), sizes))
        for net in (multitalk, s2v):
            patch.setattr(net, "STATES", STATES)
        patch.setattr(XDub, "inner", 64)
        patch.setattr(text, "LENGTH", 16)
        patch.setitem(models.AUDIO_WIDTHS, "audio_attn", WHISPER + 768)
        for audio, needs in hearing.NEEDS.items():
            fewer = (replace(each, states=min(each.states, STATES)) for each in needs)
            patch.setitem(
                hearing.NEEDS,
                audio,
                tuple(replace(each, width=WHISPER) if each.kind == "whisper" else each for each in fewer),
            )
        family_shapes.cache_clear()
        yield
    family_shapes.cache_clear()


def _shrunk(listed: Callable[[Family], Shapes], sizes: dict[int, int]) -> Callable[[Family], Shapes]:
    return lambda family: {
        name: tuple(sizes.get(size, size) for size in shape) for name, shape in listed(family).items()
    }


def write_whisper(folder: Path, width: int) -> None:
    """Write a whole Whisper of one layer."""
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

    config = WhisperConfig(
        d_model=width, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=16, decoder_ffn_dim=16, vocab_size=8, max_target_positions=4, pad_token_id=0, bos_token_id=0,
        eos_token_id=0, decoder_start_token_id=0,
    )  # fmt: skip
    WhisperModel(config).save_pretrained(folder)
    WhisperFeatureExtractor().save_pretrained(folder)


def write_parts(root: Path) -> dict[str, Path]:
    """Write what families share: two autoencoders in either layout, speech and image encoders, encoded text."""
    from transformers import (
        CLIPVisionConfig,
        CLIPVisionModel,
        Wav2Vec2Config,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2Model,
    )

    torch.manual_seed(0)
    for channels, folder, laid in ((16, "wan21", "Wan2.1_VAE.safetensors"), (48, "wan22", "vae/x.safetensors")):
        state = small_vae(channels).state_dict()
        state = nested(state, False) if channels == 16 else state
        (root / folder / laid).parent.mkdir(parents=True)
        save_file({name: value.contiguous() for name, value in state.items()}, root / folder / laid)
    for name, width in (("base", 768), ("large", 1024)):
        config = Wav2Vec2Config(
            hidden_size=width, num_hidden_layers=STATES - 1, num_attention_heads=2, intermediate_size=16,
            conv_dim=(8,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=16,
            do_stable_layer_norm=name == "large", feat_extract_norm="layer" if name == "large" else "group",
        )  # fmt: skip
        Wav2Vec2Model(config).save_pretrained(root / name)
        Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(root / name)
    write_whisper(root / "whisper", WHISPER)
    clip = CLIPVisionConfig(
        hidden_size=1280, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, image_size=28, patch_size=14
    )
    CLIPVisionModel(clip).save_pretrained(root / "wan21" / "image_encoder")
    words = {"prompt": torch.randn(4, 4096).bfloat16(), "negative": torch.randn(3, 4096).bfloat16()}
    spec = {"kind": "text", "prompt": "somebody speaks", "negative": "nobody"}
    save_file(words, root / "text.safetensors", metadata={"unisync": json.dumps(spec)})
    return {name: root / name for name in ("wan21", "wan22", "base", "large", "whisper", "text.safetensors")}


def write_model(key: str, parts: dict[str, Path]) -> dict[str, str]:
    """Write a family's files; return the flags, by the options' names, with which they are dubbed."""
    family = FAMILIES[key]
    folder = parts["wan21" if family.size.latents == 16 else "wan22"]
    flags = {"backbone": str(_written(folder, family.base or key)), "text": str(parts["text.safetensors"])}
    if family.base:
        flags["adapter"] = str(_written(folder, key))
    heard = {
        "k_proj": ["base"],
        "audio_cross_attn": ["base"],
        "audio_injector": ["large"],
        "audio_attn": ["base", "whisper"],
    }
    if family.audio:
        flags["audio_encoder"] = ",".join(str(parts[name]) for name in heard[family.audio])
    return flags


def _written(folder: Path, key: str) -> Path:
    path = folder / f"{key}.safetensors"
    if not path.exists():
        draw = torch.Generator().manual_seed(sum(map(ord, key)))
        state: dict[str, Tensor] = {}
        for name, shape in family_shapes(key).items():
            fan = max(1, torch.Size(shape[1:]).numel())
            random = torch.randn(shape, generator=draw)
            state[name] = (1 + 0.1 * random if len(shape) == 1 and "weight" in name else random / fan**0.5).bfloat16()
        save_file(state, path)
    return path
