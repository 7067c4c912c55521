"""Families: their lists are the published files', each is told from the others, and what is amiss is said."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from math import prod

import pytest

from unisync.errors import WeightsError
from unisync.nets.wan.families import FAMILIES, Shapes, family_shapes, whole_shapes
from unisync.nets.wan.names import to_diffusers
from unisync.nets.wan.recognise import check_pair, recognise, vae_latents

PUBLISHED = {
    "wan2.1-t2v-1.3b": "9269f8db9040a9d860eaca435be61814",
    "wan2.1-t2v-14b": "aafcfd9672c3a2456dc46e1cb6e52c70",
    "wan2.1-i2v-14b": "6bfcfb3b342cb286ce886889d519a77e",
    "wan2.2-i2v-a14b": "5b013604280dd715f8457c6ed6d6a626",
    "wan2.2-ti2v-5b": "1f5ab7703c6fc803fdded85ff040c316",
    "wan2.2-s2v-14b": "966cffdcc52f9c46c391768b27637614",
    "x-dub-5b": "0196e3de8b3ccced7e7e939e7f901e0b",
}
"""DiffSynth-Studio's digests of the names and shapes in the authors' files (X-Dub: its own release's configuration)."""
PUBLISHED_DIFFUSERS_14B = "cb104773c6c2cb6df4f9529ad5c60d0b"
ADAPTERS = [key for key, family in FAMILIES.items() if family.base]


def digest(shapes: Mapping[str, tuple[int, ...]]) -> str:
    parts = [f"{name}:{'_'.join(map(str, shape))}" for name, shape in shapes.items()]
    return hashlib.md5(",".join(sorted([*parts, *shapes])).encode(), usedforsecurity=False).hexdigest()


def diffusers(shapes: Shapes) -> Shapes:
    return {to_diffusers(name): shape for name, shape in shapes.items()}


@pytest.mark.parametrize("key", FAMILIES)
def test_a_list_is_the_published_files_where_it_says_so(key: str) -> None:
    assert FAMILIES[key].verified == (key in PUBLISHED)
    if key in PUBLISHED:
        assert digest(family_shapes(key)) == PUBLISHED[key]


def test_diffusers_names_are_the_published_files() -> None:
    assert digest(diffusers(family_shapes("wan2.1-t2v-14b"))) == PUBLISHED_DIFFUSERS_14B


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
@pytest.mark.parametrize("layout", ["original", "diffusers"])
@pytest.mark.parametrize("key", FAMILIES)
def test_a_family_is_told_from_the_others(key: str, layout: str, prefix: str) -> None:
    shapes = whole_shapes(key)
    shapes = diffusers(shapes) if layout == "diffusers" else shapes
    found = recognise({prefix + name: shape for name, shape in shapes.items()})
    assert (found.family, found.layout, found.prefix, found.base) == (key, layout, prefix, None)
    assert found.title in found.line and found.licence in found.line and found.layout in found.line
    assert found.heads * 128 == found.width == shapes["patch_embedding.weight"][0]
    assert found.channels_in == shapes["patch_embedding.weight"][1]
    assert (found.audio is None) == key.startswith(("wan2.1", "wan2.2-i2v", "wan2.2-ti2v"))


@pytest.mark.parametrize("key", ADAPTERS)
def test_an_adapter_is_told_from_a_whole(key: str) -> None:
    found = recognise(family_shapes(key))
    assert (found.family, found.base) == (key, FAMILIES[key].base)
    assert "adapter for " + FAMILIES[str(found.base)].title in found.line
    some = dict(list(family_shapes(str(found.base)).items())[:9])  # TalkVerse brings whole tensors of its base along
    more = recognise(family_shapes(key) | some)
    assert more.parameters == found.parameters + sum(prod(shape) for shape in some.values())
    assert replace(more, parameters=found.parameters) == found


def test_companions_and_loras_beside_are_not_taken_for_weights() -> None:
    shapes = family_shapes("talkverse-5b") | {
        "scaled_fp8": (2,),
        "audio_injector.injector.0.q.scale_weight": (),
        "audio_injector.injector.0.q.comfy_quant": (27,),
        "model.blocks.0.self_attn.q.lora_A.weight": (128, 3072),
        "model.blocks.0.self_attn.q.lora_B.weight": (3072, 128),
    }
    found = recognise(shapes)
    assert (found.family, found.lora) == ("talkverse-5b", 1)


def test_a_lora_is_no_transformer() -> None:
    with pytest.raises(WeightsError, match=r"x\.st: holds nothing but a LoRA of 1 modules"):
        recognise({"blocks.0.self_attn.q.lora_A.weight": (4, 8)}, "x.st")


@pytest.mark.parametrize("key", FAMILIES)
def test_what_lacks_a_tensor_is_refused(key: str) -> None:
    shapes = dict(family_shapes(key))
    last = list(shapes)[-1]
    del shapes[last]
    with pytest.raises(WeightsError) as caught:
        recognise(shapes, "x.st")
    message = str(caught.value)
    assert message.startswith("x.st:") and FAMILIES[key].title in message and f"lacks {last!r};" in message


def test_half_of_the_shards_are_refused_with_a_count() -> None:
    shapes = dict(list(family_shapes("wan2.1-t2v-14b").items())[:600])
    with pytest.raises(
        WeightsError, match=r"Wan2\.1 T2V 14B.*lacks '.*', '.*', '.*' and 492 more; get all of its parts"
    ):
        recognise(shapes)


def test_another_shape_is_refused() -> None:
    shapes = family_shapes("wan2.1-t2v-14b") | {"patch_embedding.weight": (5120, 20, 1, 2, 2)}
    with pytest.raises(WeightsError, match=r"'patch_embedding.weight' is \(5120, 20, 1, 2, 2\) and should be"):
        recognise(shapes)
    narrow = {name: tuple(size // 2 for size in shape) for name, shape in family_shapes("wan2.1-t2v-14b").items()}
    with pytest.raises(WeightsError, match="made for another size"):
        recognise(narrow)


def test_unknown_names_are_refused() -> None:
    shapes = family_shapes("wan2.1-i2v-14b") | {"img_emb.emb_pos": (1, 514, 1280)}
    with pytest.raises(WeightsError, match=r"nearest to Wan2\.1 I2V 14B, but also has 'img_emb.emb_pos'"):
        recognise(shapes)
    with pytest.raises(
        WeightsError, match=r"no transformer of Wan's kind \(with names such as 'a', 'b', 'c' and 1 more"
    ):
        recognise(dict.fromkeys("abcd", (1,)))
    with pytest.raises(WeightsError, match="it has no weights"):
        recognise({})


def test_pairs_that_go_together_pass() -> None:
    i2v = recognise(family_shapes("wan2.1-i2v-14b"))
    adapter = recognise(family_shapes("fantasytalking"))
    lora = {"blocks.0.cross_attn.k_img": (5120, 5120), "blocks.0.norm3": None, "patch_embedding": (5120, 36, 1, 2, 2)}
    check_pair(i2v, adapter=adapter, lora=lora, latents=16)


@pytest.mark.parametrize(
    ("adapter", "lora", "latents", "message"),
    [
        ("talkverse-5b", None, None, r"TalkVerse 5B \(3072 wide\) is for Wan2\.2 TI2V 5B and does not go with"),
        ("wan2.2-s2v-14b", None, None, r"S2V 14B is a whole transformer and no adapter"),
        (
            None,
            {"blocks.0.self_attn.q": (3072, 3072)},
            None,
            r"'blocks\.0\.self_attn\.q' is \(3072, 3072\) and .* is \(5120,",
        ),
        (None, {"double_blocks.0.img_attn": (1, 1)}, None, r"changes 'double_blocks\.0\.img_attn', which Wan2\.1 I2V"),
        (None, {"blocks.40.norm3": None}, None, "does not have"),
        (None, None, 48, r"autoencoder of 48 channels does not go with Wan2\.1 I2V 14B.* have 16; take Wan2\.1_VAE"),
    ],
)
def test_pairs_that_do_not_go_together_are_refused(
    adapter: str | None, lora: dict[str, tuple[int, ...] | None] | None, latents: int | None, message: str
) -> None:
    i2v = recognise(family_shapes("wan2.1-i2v-14b"))
    with pytest.raises(WeightsError, match=message):
        check_pair(i2v, recognise(family_shapes(adapter)) if adapter else None, lora, latents)


def test_an_adapter_alone_is_no_transformer() -> None:
    with pytest.raises(WeightsError, match=r"FantasyTalking is an adapter .* give Wan2\.1 I2V 14B as well"):
        check_pair(recognise(family_shapes("fantasytalking")))


@pytest.mark.parametrize(
    ("name", "latents"),
    [("decoder.conv1.weight", 16), ("decoder.conv_in.weight", 48), ("model.decoder.conv1.weight", 48)],
)
def test_an_autoencoders_channels_are_read_off(name: str, latents: int) -> None:
    assert vae_latents({name: (384, latents, 3, 3, 3)}) == latents


def test_other_autoencoders_are_refused() -> None:
    with pytest.raises(WeightsError, match=r"v\.st: is no autoencoder of Wan's"):
        vae_latents({"decoder.conv_in.weight": (512, 4, 3, 3)}, "v.st")
