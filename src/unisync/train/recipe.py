"""Recipes: a TOML file that says everything about a training, read into frozen dataclasses."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from unisync.errors import OptionError
from unisync.nets.audio import AudioConfig
from unisync.nets.transformer import TransformerConfig
from unisync.nets.vae import VaeConfig
from unisync.options import TrainOptions, suggest
from unisync.train.audio import AudioRecipe
from unisync.train.distil import DistilRecipe
from unisync.train.expert import ExpertRecipe
from unisync.train.lora import LoraRecipe
from unisync.train.transformer import TransformerRecipe
from unisync.train.vae import VaeRecipe

Kind = Literal["embedded", "vae", "audio", "transformer", "distil", "expert"]


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
    """

    kind: Kind
    dataset: str = "dataset"
    work: str = "work"
    out: str = ""
    weights: str = ""
    go_on: bool = False
    networks: Networks = field(default_factory=Networks)
    vae: VaeRecipe = field(default_factory=VaeRecipe)
    audio: AudioRecipe = field(default_factory=AudioRecipe)
    transformer: TransformerRecipe = field(default_factory=TransformerRecipe)
    distil: DistilRecipe = field(default_factory=DistilRecipe)
    expert: ExpertRecipe = field(default_factory=ExpertRecipe)
    lora: LoraRecipe | None = None

    def __post_init__(self) -> None:
        if self.kind in ("embedded", "expert") and self.lora is not None:
            raise OptionError("lora changes one network: take kind transformer, distil, vae or audio")
        if not self.out:
            raise OptionError("out is missing: name the file to write")


def read_recipe(path: Path, options: TrainOptions) -> Recipe:
    """Return the recipe in a TOML file, with what the options say in its place. Raises OptionError."""
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise OptionError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OptionError(f"{path}: is not TOML ({error})") from error
    given = {name: value for name, value in options.to_dict().items() if value}
    steps, minutes = given.pop("steps", 0), given.pop("minutes", 0.0)
    try:
        recipe: Recipe = made(Recipe, {**values, **given}, "")
        return with_end(recipe, steps, minutes) if steps or minutes else recipe
    except OptionError as error:
        raise OptionError(f"{path}: {error}") from error


def with_end(recipe: Recipe, steps: int, minutes: float) -> Recipe:
    """Return the recipe with another end of what its kind trains (of the transformer, if that is everything)."""
    name = "transformer" if recipe.kind == "embedded" else recipe.kind
    return replace(recipe, **{name: replace(getattr(recipe, name), steps=steps, minutes=minutes)})


def made(cls: type[Any], values: Mapping[str, Any], where: str) -> Any:
    """Return a frozen dataclass from a table; unknown names and values of another type are errors."""
    types = get_type_hints(cls)
    known = [item.name for item in fields(cls)]
    clean: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            raise OptionError(f"there is no {where + key!r}{suggest(key, known)}")
        clean[key] = _value(types[key], value, f"{where}{key}")
    if missing := [name for name in known if name in ("kind",) and name not in clean]:
        raise OptionError(f"{missing[0]} is missing: one of {', '.join(get_args(Kind))}")
    return cls(**clean)


def _value(hint: Any, value: Any, where: str) -> Any:
    """Return a value as the hint wants it."""
    choices = get_args(hint)
    if type(None) in choices:
        return _value(choices[0], value, where)
    if is_dataclass(hint):
        if not isinstance(value, dict):
            raise OptionError(f"{where} must be a table, [{where}]")
        return made(hint, value, f"{where}.")  # type: ignore[arg-type]
    if get_origin(hint) is Literal:
        if value not in choices:
            raise OptionError(
                f"{where} must be one of {', '.join(choices)}, not {value!r}{suggest(str(value), choices)}"
            )
        return value
    if get_origin(hint) is tuple:
        many = choices[-1] is ...
        if not isinstance(value, list) or (not many and len(value) != len(choices)):
            raise OptionError(f"{where} must be a list{'' if many else f' of {len(choices)}'}, not {value!r}")
        kinds = [choices[0]] * len(value) if many else choices
        return tuple(_value(kind, item, where) for kind, item in zip(kinds, value, strict=True))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        words = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
        raise OptionError(f"{where} must be {words[hint]}, not {value!r}")
    return value
