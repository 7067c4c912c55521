"""Names: every name of every family goes to diffusers and back, and prefixes go."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unisync.nets.wan.families import FAMILIES, whole_shapes
from unisync.nets.wan.names import PREFIXES, canonical, layout_of, strip_prefix, to_diffusers, to_original

EVERY = sorted({name for key in FAMILIES for name in whole_shapes(key)})


@pytest.mark.parametrize("key", FAMILIES)
def test_names_go_to_diffusers_and_back(key: str) -> None:
    names = list(whole_shapes(key))
    theirs = [to_diffusers(name) for name in names]
    assert len(set(theirs)) == len(names)
    assert [to_original(name) for name in theirs] == names
    assert (layout_of(names), layout_of(theirs)) == ("original", "diffusers")


@given(st.sampled_from(EVERY), st.sampled_from(["", *PREFIXES]))
def test_prefixes_go_and_nothing_else(name: str, prefix: str) -> None:
    assert strip_prefix(prefix + name) == (prefix, name)
    assert canonical(prefix + name, "original") == name
    assert canonical(prefix + to_diffusers(name), "diffusers") == name


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("blocks.7.norm3.weight", "blocks.7.norm2.weight"),
        ("blocks.7.norm2.weight", "blocks.7.norm3.weight"),
        ("blocks.39.self_attn.o.bias", "blocks.39.attn1.to_out.0.bias"),
        ("blocks.0.cross_attn.norm_k_img.weight", "blocks.0.attn2.norm_added_k.weight"),
        ("blocks.0.modulation", "blocks.0.scale_shift_table"),
        ("head.modulation", "scale_shift_table"),
        ("head.head.weight", "proj_out.weight"),
        ("img_emb.proj.4.bias", "condition_embedder.image_embedder.norm2.bias"),
        ("blocks.0.self_attn.q", "blocks.0.attn1.to_q"),
    ],
)
def test_some_names_as_they_are_in_the_wild(ours: str, theirs: str) -> None:
    assert to_diffusers(ours) == theirs
    assert to_original(theirs) == ours


@pytest.mark.parametrize(
    "name",
    [
        "audio_embedding.layers.0.attn.to_out.0.weight",  # looks like diffusers' and is X-Dub's own
        "audio_injector.injector.0.q.weight",
        "head.head.weights",
        "blocks.a.norm2.weight",
        "my.blocks.0.norm2.weight",
    ],
)
def test_only_whole_names_are_translated(name: str) -> None:
    assert to_diffusers(name) == to_original(name) == name


def test_fantasytalkings_names_lose_where_they_lay() -> None:
    name = "audio_processor.blocks.3.cross_attn.processor.k_proj.weight"
    assert canonical(name, "original") == "blocks.3.cross_attn.k_proj.weight"
