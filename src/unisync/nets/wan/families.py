"""The public models in Wan's shape: what each one's tensors are called and how large they are.

A list is `verified` when a digest over its names and shapes, published for the authors' own file, is the same; the
others were written down from their authors' network definitions and `source` says which.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

Shapes = dict[str, tuple[int, ...]]
Audio = Literal["k_proj", "audio_cross_attn", "audio_injector", "audio_attn"]
"""How sound gets in, after the module that lets it in: keys and values beside the text's, which share its query;
attention of its own in every block; in some blocks, with an adaptive norm; in every block for the target's tokens."""

HEAD_WIDTH = 128
TEXT_WIDTH, FREQUENCIES, CLIP_WIDTH = 4096, 256, 1280


@dataclass(frozen=True)
class Size:
    """How large a transformer is; `latents` are the channels of its autoencoder's latents."""

    width: int
    layers: int
    ffn: int
    latents: int

    @property
    def heads(self) -> int:
        return self.width // HEAD_WIDTH


SMALL, MIDDLE, LARGE = Size(1536, 30, 8960, 16), Size(3072, 30, 14336, 48), Size(5120, 40, 13824, 16)


@dataclass(frozen=True)
class Family:
    """A public model. An adapter holds what is added to its `base`, whose tensors it may bring along."""

    key: str
    title: str
    size: Size
    channels_in: int
    """Channels of the patch embedding's input: noisy latents, and for I2V a mask (4) and the image's latents (16)."""
    clip: bool = False
    """Whether it attends to CLIP's image tokens."""
    audio: Audio | None = None
    injectors: int = 0
    """Number of audio injectors."""
    pose: int = 0
    """Channels of the pose encoder's input; 0: none."""
    base: str | None = None
    licence: str = "Apache-2.0"
    verified: bool = True
    source: str = "digest of the published file"


TALKVERSE = "snap-research/TalkVerse, wan/modules/s2v/model_s2v_5b.py; which of the tensors its file holds is not known"
FANTASY = "Fantasy-AMAP/fantasy-talking, model.py; no digest of its file is published"
MULTITALK = "MeiGen-AI/InfiniteTalk, wan/modules/multitalk_model.py; the size of a published repack agrees"

FAMILIES: dict[str, Family] = {
    family.key: family
    for family in (
        Family("wan2.1-t2v-1.3b", "Wan2.1 T2V 1.3B", SMALL, 16),
        Family("wan2.1-t2v-14b", "Wan2.1 T2V 14B or Wan2.2 T2V A14B", LARGE, 16),
        Family("wan2.1-i2v-14b", "Wan2.1 I2V 14B", LARGE, 36, clip=True),
        Family("wan2.2-i2v-a14b", "Wan2.2 I2V A14B", LARGE, 36),
        Family("wan2.2-ti2v-5b", "Wan2.2 TI2V 5B", MIDDLE, 48),
        Family("wan2.2-s2v-14b", "Wan2.2 S2V 14B", LARGE, 16, audio="audio_injector", injectors=12, pose=16),
        Family(
            "x-dub-5b",
            "X-Dub 5B",
            MIDDLE,
            48,
            audio="audio_attn",
            licence="Apache-2.0 for the code; the weights' own page says theirs",
        ),
        Family(
            "talkverse-5b",
            "TalkVerse 5B",
            MIDDLE,
            48,
            audio="audio_injector",
            injectors=11,
            base="wan2.2-ti2v-5b",
            licence="Snap Inc. Non-Commercial License",
            verified=False,
            source=TALKVERSE,
        ),
        Family(
            "fantasytalking",
            "FantasyTalking",
            LARGE,
            36,
            clip=True,
            audio="k_proj",
            base="wan2.1-i2v-14b",
            licence="not known to us; its own page says",
            verified=False,
            source=FANTASY,
        ),
        Family(
            "multitalk",
            "MultiTalk or InfiniteTalk",
            LARGE,
            36,
            clip=True,
            audio="audio_cross_attn",
            base="wan2.1-i2v-14b",
            verified=False,
            source=MULTITALK,
        ),
    )
}


@cache
def family_shapes(key: str) -> Shapes:
    """Return the tensors of a family's own file by Wan's names; of an adapter, those that it adds."""
    family = FAMILIES[key]
    shapes: Shapes = {} if family.base else dict(_transformer(family))
    match family.audio:
        case "k_proj":
            shapes |= _fantasytalking(family)
        case "audio_cross_attn":
            shapes |= _multitalk(family)
        case "audio_injector":
            shapes |= _speech_to_video(family)
        case "audio_attn":
            shapes |= _xdub(family)
    return shapes


def whole_shapes(key: str) -> Shapes:
    """Return the tensors of the whole network: an adapter's with its base's."""
    base = FAMILIES[key].base
    return (family_shapes(base) if base else {}) | family_shapes(key)


def _linear(name: str, out: int, into: int, bias: bool = True) -> Shapes:
    return {f"{name}.weight": (out, into)} | ({f"{name}.bias": (out,)} if bias else {})


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _conv(name: str, out: int, into: int, *kernel: int) -> Shapes:
    return {f"{name}.weight": (out, into, *kernel), f"{name}.bias": (out,)}


def _attention(name: str, width: int, clip: bool = False) -> Shapes:
    shapes: Shapes = {}
    for part in ("q", "k", "v", "o", *(("k_img", "v_img") if clip else ())):
        shapes |= _linear(f"{name}.{part}", width, width)
    for part in ("norm_q", "norm_k", *(("norm_k_img",) if clip else ())):
        shapes[f"{name}.{part}.weight"] = (width,)
    return shapes


def _blocks(family: Family) -> Iterator[str]:
    return (f"blocks.{index}" for index in range(family.size.layers))


def _transformer(family: Family) -> Shapes:
    width = family.size.width
    shapes = _conv("patch_embedding", width, family.channels_in, 1, 2, 2)
    shapes |= _linear("text_embedding.0", width, TEXT_WIDTH) | _linear("text_embedding.2", width, width)
    shapes |= _linear("time_embedding.0", width, FREQUENCIES) | _linear("time_embedding.2", width, width)
    shapes |= _linear("time_projection.1", 6 * width, width)
    for block in _blocks(family):
        shapes |= _attention(f"{block}.self_attn", width) | _attention(f"{block}.cross_attn", width, family.clip)
        shapes |= _norm(f"{block}.norm3", width)
        shapes |= _linear(f"{block}.ffn.0", family.size.ffn, width) | _linear(f"{block}.ffn.2", width, family.size.ffn)
        shapes[f"{block}.modulation"] = (1, 6, width)
    shapes |= _linear("head.head", 4 * family.size.latents, width) | {"head.modulation": (1, 2, width)}
    if family.clip:
        shapes |= _norm("img_emb.proj.0", CLIP_WIDTH) | _linear("img_emb.proj.1", CLIP_WIDTH, CLIP_WIDTH)
        shapes |= _linear("img_emb.proj.3", width, CLIP_WIDTH) | _norm("img_emb.proj.4", width)
    return shapes


def _speech_to_video(family: Family) -> Shapes:
    width, encoder = family.size.width, "casual_audio_encoder.encoder"  # the authors' spelling
    shapes: Shapes = {"casual_audio_encoder.weights": (1, 25, 1, 1), f"{encoder}.padding_tokens": (1, 1, 1, width)}
    for name, out, into in (
        ("conv1_local", width, 1024),
        ("conv1_global", width // 4, 1024),
        ("conv2", width // 2, width // 4),
        ("conv3", width, width // 2),
    ):
        shapes |= _conv(f"{encoder}.{name}.conv", out, into, 3)
    shapes |= _linear(f"{encoder}.final_linear", width, width)
    for index in range(family.injectors):
        shapes |= _attention(f"audio_injector.injector.{index}", width)
        shapes |= _linear(f"audio_injector.injector_adain_layers.{index}.linear", 2 * width, width)
    shapes["trainable_cond_mask.weight"] = (3, width)
    for name, scale in (("proj", 1), ("proj_2x", 2), ("proj_4x", 4)):
        shapes |= _conv(f"frame_packer.{name}", width, family.size.latents, scale, 2 * scale, 2 * scale)
    if family.pose:
        shapes |= _conv("cond_encoder", width, family.pose, 1, 2, 2)
    return shapes


def _fantasytalking(family: Family) -> Shapes:
    shapes = _linear("proj_model.proj", 2048, 768, bias=False) | _norm("proj_model.norm", 2048)
    for block in _blocks(family):
        for part in ("k_proj", "v_proj"):
            shapes |= _linear(f"{block}.cross_attn.{part}", family.size.width, 2048, bias=False)
    return shapes


def _multitalk(family: Family) -> Shapes:
    width, hidden, states = family.size.width, 768, 12
    shapes = _linear("audio_proj.proj1", 512, 5 * states * hidden)
    shapes |= _linear("audio_proj.proj1_vf", 512, 8 * states * hidden)
    shapes |= _linear("audio_proj.proj2", 512, 512) | _linear("audio_proj.proj3", 32 * hidden, 512)
    shapes |= _norm("audio_proj.norm", hidden)
    for block in _blocks(family):
        shapes |= _linear(f"{block}.audio_cross_attn.q_linear", width, width)
        shapes |= _linear(f"{block}.audio_cross_attn.kv_linear", 2 * width, hidden)
        shapes |= _linear(f"{block}.audio_cross_attn.proj", width, width)
        shapes |= _norm(f"{block}.norm_x", width)
    return shapes


def _xdub(family: Family) -> Shapes:
    inner, features = 1536, 1280 + 768
    shapes = _linear("audio_embedding.proj_in", inner, features)
    shapes |= _linear("audio_embedding.proj_out", family.size.width, inner)
    for index in range(4):
        layer = f"audio_embedding.layers.{index}"
        shapes |= _norm(f"{layer}.norm1", inner) | _norm(f"{layer}.norm2", inner)
        for part in ("to_q", "to_k", "to_v"):
            shapes |= _linear(f"{layer}.attn.{part}", inner, inner, bias=False)
        shapes |= _linear(f"{layer}.attn.to_out.0", inner, inner)
        shapes |= _linear(f"{layer}.ff.net.0.proj", 8 * inner, inner) | _linear(f"{layer}.ff.net.2", inner, 4 * inner)
        shapes[f"{layer}.pos_embed.pe"] = (1, 100, inner)
    for block in _blocks(family):
        shapes |= _norm(f"{block}.norm4", family.size.width) | _attention(f"{block}.audio_attn", family.size.width)
    return shapes
