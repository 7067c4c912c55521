"""Recipes: a TOML file that says everything about a training, read into frozen dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from unisync.errors import OptionError
from unisync.nets.audio import AudioConfig
from unisync.nets.transformer import TransformerConfig
from unisync.nets.vae import VaeConfig
from unisync.options import TrainOptions
from unisync.parse import made, read_toml
from unisync.training.audio import AudioRecipe
from unisync.training.distil import DistilRecipe
from unisync.training.expert import ExpertRecipe
from unisync.training.large import LargeRecipe
from unisync.training.lora import LoraRecipe
from unisync.training.transformer import TransformerRecipe
from unisync.training.vae import VaeRecipe

Kind = Literal["embedded", "vae", "audio", "transformer", "distil", "expert", "wan"]


@dataclass(frozen=True, kw_only=True)
class Networks:
    """What the networks are, where they are made anew."""

    vae: VaeConfig = field(default_factory=VaeConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)
    transformer: TransformerConfig = field(default_factory=lambda: TransformerConfig(prediction="data"))


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training, whole.

    kind: what is trained; "embedded" is the whole way from a dataset to one weights file.  dataset: from `unisync prepare`.
    work: where stages and checkpoints lie.  out: the file to write.  weights: where parts that are not trained come from,
    and what is gone on from or taught by; else the shipped ones.  go_on: begin with the weights instead of none.
    lora: train a LoRA of the weights instead of the network.
    audio_encoder: folder of a speech encoder in Whisper's layout that the transformer attends to in the place of the
    weights' own, from which the lips still come.  text: a file by `unisync text` for a transformer that reads.
    """

    kind: Kind
    dataset: str = "dataset"
    work: str = "work"
    out: str = ""
    weights: str = ""
    go_on: bool = False
    audio_encoder: str = ""
    text: str = ""
    networks: Networks = field(default_factory=Networks)
    vae: VaeRecipe = field(default_factory=VaeRecipe)
    audio: AudioRecipe = field(default_factory=AudioRecipe)
    transformer: TransformerRecipe = field(default_factory=TransformerRecipe)
    distil: DistilRecipe = field(default_factory=DistilRecipe)
    expert: ExpertRecipe = field(default_factory=ExpertRecipe)
    wan: LargeRecipe = field(default_factory=LargeRecipe)
    lora: LoraRecipe | None = None

    def __post_init__(self) -> None:
        if self.kind in ("embedded", "expert") and self.lora is not None:
            raise OptionError("lora changes one network: take kind transformer, distil, vae or audio")
        if self.kind == "wan" and self.lora is None:
            raise OptionError("a large model is taught by a LoRA: give a table [lora]")
        if not self.out:
            raise OptionError("out is missing: name the file to write")


def read_recipe(path: Path, options: TrainOptions) -> Recipe:
    """Return the recipe in a TOML file, with what the options say in its place. Raises OptionError."""
    values = read_toml(path)
    given = {name: value for name, value in options.to_dict().items() if value}
    steps, minutes = given.pop("steps", 0), given.pop("minutes", 0.0)
    try:
        recipe: Recipe = made(Recipe, {**values, **given})
        return with_end(recipe, steps, minutes) if steps or minutes else recipe
    except OptionError as error:
        raise OptionError(f"{path}: {error}") from error


def with_end(recipe: Recipe, steps: int, minutes: float) -> Recipe:
    """Return the recipe with another end of what its kind trains (of the transformer, if that is everything)."""
    name = "transformer" if recipe.kind == "embedded" else recipe.kind
    return replace(recipe, **{name: replace(getattr(recipe, name), steps=steps, minutes=minutes)})
