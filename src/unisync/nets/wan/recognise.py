"""Which public model a file is, told by the names and shapes of its tensors and never by what the file is called."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from unisync.errors import WeightsError
from unisync.nets.wan.families import FAMILIES, Audio, Family, family_shapes, whole_shapes
from unisync.nets.wan.names import Layout, canonical, layout_of, strip_prefix

Shape = tuple[int, ...]
COMPANION = re.compile(r"(.+\.)?(scaled_fp8|(scale_weight|weight_scale|scale_input|input_scale|comfy_quant))")
"""Tensors beside the weights that say how these are quantised."""
LORA = re.compile(r"(.+)\.lora_[AB](\.\w+)?\.weight")
SHOWN = 3
"""Names that a message gives before it counts the rest."""


@dataclass(frozen=True)
class Recognised:
    """What a file holds. Sizes are in channels."""

    family: str
    """Key of `families.FAMILIES`."""
    title: str
    layout: Layout
    prefix: str
    """What the file's names begin with, most often; "" for nothing."""
    width: int
    layers: int
    heads: int
    ffn: int
    channels_in: int
    latents: int
    """Channels of the autoencoder that it needs."""
    audio: Audio | None
    base: str | None
    """Family that it must be added to; None: it is whole."""
    parameters: int
    """Numbers in the file's own tensors, a LoRA's inside it left out."""
    lora: int
    """Modules with a LoRA change inside the file, as TalkVerse ships them."""
    licence: str
    verified: bool
    """Whether this family's list is known to be the published file's."""

    @property
    def line(self) -> str:
        """One line for people."""
        kind = f"an adapter for {FAMILIES[self.base].title}, " if self.base else ""
        size = f"{self.layers} layers of {self.width}, {self.heads} heads, {self.channels_in} channels in"
        sound = f"sound through {self.audio}" if self.audio else "deaf"
        names = f"{self.layout} names" + (f" after {self.prefix!r}" if self.prefix else "")
        numbers = f"{self.parameters / 1e9:.2f} billion parameters"
        return f"{self.title}: {kind}{numbers}, {size}, {sound}; {names}; licence {self.licence}"


@dataclass(frozen=True)
class _Fit:
    """How well a file fits a family."""

    family: Family
    missing: list[str]
    wrong: list[str]
    unknown: list[str]
    score: tuple[int, int]
    """Names as they should be less the others; then, with families that hold one another, the fewest not there."""
    whole: bool


def recognise(shapes: Mapping[str, Shape], source: str | Path = "these weights") -> Recognised:
    """Return what a file is whose tensors have these names, as they lie in the file, and shapes.

    source: what messages call the file.  Raises WeightsError if it is nothing known, incomplete or misshapen.
    """
    raw = [name for name in shapes if not COMPANION.fullmatch(name)]
    lora = {match[1] for name in raw if (match := LORA.fullmatch(name))}
    weights = [name for name in raw if not LORA.fullmatch(name)]
    if lora and not weights:
        raise WeightsError(f"{source}: holds nothing but a LoRA of {len(lora)} modules; give it beside its transformer")
    layout = layout_of(weights)
    found = {canonical(name, layout): tuple(shapes[name]) for name in weights}
    fit = max((_fit(family, found) for family in FAMILIES.values()), key=lambda each: each.score)
    _complain(fit, found, source)
    prefixes = [strip_prefix(name)[0] for name in weights]
    family = fit.family
    return Recognised(
        family=family.key,
        title=family.title,
        layout=layout,
        prefix=max(set(prefixes), key=prefixes.count),
        width=family.size.width,
        layers=family.size.layers,
        heads=family.size.heads,
        ffn=family.size.ffn,
        channels_in=family.channels_in,
        latents=family.size.latents,
        audio=family.audio,
        base=None if fit.whole else family.base,
        parameters=sum(prod(shape) for shape in found.values()),
        lora=len(lora),
        licence=family.licence,
        verified=family.verified,
    )


def check_pair(
    transformer: Recognised,
    adapter: Recognised | None = None,
    lora: Mapping[str, Shape | None] | None = None,
    latents: int | None = None,
) -> None:
    """Raise WeightsError unless these go together.

    adapter: what is to be added to the transformer.  lora: what `lora_files.shapes_of`
    says of it.  latents: channels of the autoencoder.
    """
    if transformer.base is not None:
        base = FAMILIES[transformer.base].title
        raise WeightsError(f"{transformer.title} is an adapter and no transformer by itself; give {base} as well")
    if adapter is not None:
        _check_adapter(transformer, adapter)
    if lora is not None:
        _check_lora(transformer, lora)
    if latents is not None and latents != transformer.latents:
        fitting = "Wan2.2_VAE (48 channels)" if transformer.latents == 48 else "Wan2.1_VAE (16 channels)"
        raise WeightsError(
            f"an autoencoder of {latents} channels does not go with {transformer.title}, "
            f"whose latents have {transformer.latents}; take {fitting}"
        )


def vae_latents(shapes: Mapping[str, Shape], source: str | Path = "these weights") -> int:
    """Return the channels of a Wan autoencoder's latents, by Wan's or diffusers' names. Raises WeightsError if it is none."""
    for name in ("decoder.conv1.weight", "decoder.conv_in.weight"):
        shape = next((shapes[raw] for raw in shapes if raw == name or raw.endswith(f".{name}")), ())
        if len(shape) == 5:  # convolutions over time, which image autoencoders lack
            return shape[1]
    raise WeightsError(f"{source}: is no autoencoder of Wan's; take Wan2.1_VAE or Wan2.2_VAE as the model's page says")


def some(names: Iterable[str]) -> str:
    """Return the first names in quotes and how many more there are."""
    every = list(names)
    more = f" and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return ", ".join(map(repr, every[:SHOWN])) + more


def _fit(family: Family, found: Mapping[str, Shape]) -> _Fit:
    own, every = family_shapes(family.key), whole_shapes(family.key)
    wrong = [name for name, shape in found.items() if name in every and every[name] != shape]
    unknown = [name for name in found if name not in every]
    lacking = [name for name in every if name not in found]
    return _Fit(
        family=family,
        missing=[name for name in lacking if name in own],
        wrong=wrong,
        unknown=unknown,
        score=(len(found) - 2 * len(wrong) - 2 * len(unknown), -len(lacking)),
        whole=not lacking,
    )


def _complain(fit: _Fit, found: Mapping[str, Shape], source: str | Path) -> None:
    title = fit.family.title
    if 2 * len(fit.unknown) >= len(found):
        what = f"with names such as {some(fit.unknown)}" if found else "it has no weights"
        known = "; ".join(family.title for family in FAMILIES.values())
        raise WeightsError(f"{source}: holds no transformer of Wan's kind ({what}); known are {known}")
    wanted = whole_shapes(fit.family.key)
    if fit.wrong:
        name = fit.wrong[0]
        raise WeightsError(
            f"{source}: is nearest to {title}, but {some(fit.wrong)} are not as there: "
            f"{name!r} is {found[name]} and should be {wanted[name]}; it was made for another size"
        )
    if fit.missing:
        raise WeightsError(
            f"{source}: is nearest to {title}, but lacks {some(fit.missing)}; get all of its parts again"
        )
    if fit.unknown:
        raise WeightsError(
            f"{source}: is nearest to {title}, but also has {some(fit.unknown)}; this variant cannot be run yet"
        )


def _check_adapter(transformer: Recognised, adapter: Recognised) -> None:
    if adapter.base is None:
        raise WeightsError(
            f"{adapter.title} is a whole transformer and no adapter for {transformer.title}; give it alone"
        )
    if adapter.base != transformer.family:
        raise WeightsError(
            f"the adapter {adapter.title} ({adapter.width} wide) is for {FAMILIES[adapter.base].title} and does not go with "
            f"{transformer.title} ({transformer.width} wide); give it the transformer it was made for"
        )


def _check_lora(transformer: Recognised, lora: Mapping[str, Shape | None]) -> None:
    wanted = whole_shapes(transformer.family)
    there = {name: wanted.get(f"{name}.weight") or wanted.get(name) for name in lora}
    if absent := [name for name, shape in there.items() if shape is None]:
        raise WeightsError(
            f"the LoRA changes {some(absent)}, which {transformer.title} does not have; it was made for another model"
        )
    for name, shape in lora.items():
        own = there[name]
        if shape and own and (shape[0], prod(shape[1:])) != (own[0], prod(own[1:])):
            raise WeightsError(
                f"the LoRA's {name!r} is {shape} and {transformer.title}'s is {own}; it was made for another size"
            )
