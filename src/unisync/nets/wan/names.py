"""Names of a Wan transformer's tensors: Wan's own are ours; diffusers' names and the prefixes of repacks are undone."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

Layout = Literal["original", "diffusers"]

PREFIXES = ("model.diffusion_model.", "diffusion_model.", "audio_processor.", "model.", "transformer.")
"""What repacks put in front. The first that matches goes; no tensor of a known family begins with one of them."""

_ATTENTION = {
    "q": "to_q",
    "k": "to_k",
    "v": "to_v",
    "o": "to_out.0",
    "k_img": "add_k_proj",
    "v_img": "add_v_proj",
    "norm_q": "norm_q",
    "norm_k": "norm_k",
    "norm_k_img": "norm_added_k",
}
_BLOCK = {
    **{f"self_attn.{ours}": f"attn1.{theirs}" for ours, theirs in _ATTENTION.items()},
    **{f"cross_attn.{ours}": f"attn2.{theirs}" for ours, theirs in _ATTENTION.items()},
    "norm2": "norm3",  # each side numbers the norms in its own order
    "norm3": "norm2",
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
    "modulation": "scale_shift_table",
}
_ROOT = {
    "head.head": "proj_out",
    "head.modulation": "scale_shift_table",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "img_emb.proj.0": "condition_embedder.image_embedder.norm1",
    "img_emb.proj.1": "condition_embedder.image_embedder.ff.net.0.proj",
    "img_emb.proj.3": "condition_embedder.image_embedder.ff.net.2",
    "img_emb.proj.4": "condition_embedder.image_embedder.norm2",
}
_TO_DIFFUSERS = (_ROOT, _BLOCK)
_TO_ORIGINAL = ({b: a for a, b in _ROOT.items()}, {b: a for a, b in _BLOCK.items()})
_IN_BLOCK = re.compile(r"(blocks\.\d+\.)(.+)")
_LEAF = re.compile(r"(.+)\.(weight|bias)")
_ONLY_DIFFUSERS = re.compile(r"condition_embedder\.|proj_out\.|scale_shift_table$|blocks\.\d+\.(attn[12]\.|ffn\.net\.)")


def to_diffusers(name: str) -> str:
    """Return diffusers' name of a tensor or module in Wan's names; what diffusers has no name for stays as it is."""
    return _translated(name, *_TO_DIFFUSERS)


def to_original(name: str) -> str:
    """Return Wan's name of a tensor or module in diffusers' names; the reverse of `to_diffusers`.

    Only for files whose `layout_of` is "diffusers": norm2 and norm3 change places, whichever side they came from.
    """
    return _translated(name, *_TO_ORIGINAL)


def strip_prefix(name: str) -> tuple[str, str]:
    """Return the prefix of a repack, "" if it has none, and the rest of the name."""
    prefix = next((p for p in PREFIXES if name.startswith(p)), "")
    return prefix, name[len(prefix) :]


def layout_of(names: Iterable[str]) -> Layout:
    """Return whose names these are, prefixes or not."""
    return "diffusers" if any(_ONLY_DIFFUSERS.match(strip_prefix(name)[1]) for name in names) else "original"


def canonical(name: str, layout: Layout) -> str:
    """Return Wan's own name, without prefix, of a tensor in a file of this layout."""
    bare = strip_prefix(name)[1].replace(".processor.", ".")  # where FantasyTalking keeps its keys and values
    return to_original(bare) if layout == "diffusers" else bare


def _translated(name: str, root: dict[str, str], block: dict[str, str]) -> str:
    inside = _IN_BLOCK.fullmatch(name)
    place, rest, table = (inside[1], inside[2], block) if inside else ("", name, root)
    leaf = _LEAF.fullmatch(rest)
    module, end = (leaf[1], f".{leaf[2]}") if leaf else (rest, "")
    return f"{place}{table.get(module, module)}{end}"
