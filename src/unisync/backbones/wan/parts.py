"""Which files a public model paints with: found, recognised and held against one another before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from unisync.backbones.pretrained import config_of
from unisync.backbones.speech_encoders import Needs, check_encoder
from unisync.backbones.text import ZERO
from unisync.backbones.wan.hearing import NEEDS
from unisync.backbones.wan.seeing import check_clip
from unisync.errors import OptionError, WeightsError
from unisync.nets.lora import parse_lora
from unisync.nets.wan.editing import Taught, check_family, taught_by
from unisync.nets.wan.families import FAMILIES, Family
from unisync.nets.wan.files import WeightFiles
from unisync.nets.wan.lora_files import Delta, read_lora, shapes_of
from unisync.nets.wan.recognise import check_pair, vae_latents
from unisync.options import DubOptions

VAES: dict[int, tuple[str, ...]] = {
    16: ("vae", "Wan2.1_VAE.safetensors", "Wan2.1_VAE.pth", "wan_2.1_vae.safetensors"),
    48: ("vae", "Wan2.2_VAE.safetensors", "Wan2.2_VAE.pth", "wan2.2_vae.safetensors"),
}
"""Where an autoencoder lies beside its model, by the channels of its latents."""
IMAGE_ENCODER = "image_encoder"


@dataclass(frozen=True, eq=False)
class Parts:
    """What a model is put together from. text: None is none.  lines: what each part is, for people."""

    family: Family
    files: WeightFiles
    adapter: WeightFiles | None
    vae: WeightFiles
    encoders: tuple[tuple[Path, Needs], ...]
    image_encoder: Path | None
    text: Path | None
    loras: tuple[tuple[dict[str, Delta], float], ...]
    taught: Taught | None
    lines: tuple[str, ...]


def gather(options: DubOptions) -> Parts:
    """Return the parts that the options name, or that lie beside the model; only headers are read, and LoRA files.

    Raises WeightsError or OptionError, in one sentence, if a part is missing or does not go with the others.
    """
    assert options.backbone is not None
    path = Path(options.backbone)
    files = WeightFiles(path)
    base = files.recognise()
    lines = [f"{path}: {base.line}; {files.precision}"]
    adapter = WeightFiles(Path(options.adapter)) if options.adapter else None
    beside = adapter.recognise() if adapter else None
    check_pair(base, beside)
    if adapter and beside:
        lines.append(f"{adapter.path}: {beside.line}; {adapter.precision}")
    family = FAMILIES[(beside or base).family]
    places = [_folder(place) for place in (path, adapter.path if adapter else path)]
    vae = WeightFiles(_vae(options, family, places))
    latents = vae_latents(vae.shapes, vae.path)
    check_pair(base, latents=latents)
    lines.append(f"{vae.path}: an autoencoder of {latents} channels")
    encoders = tuple(_encoders(options, family, places))
    lines += [f"{folder}: speech encoder {needs.published} or alike" for folder, needs in encoders]
    image_encoder = _image_encoder(options, family, places)
    if image_encoder:
        lines.append(f"{image_encoder}: image encoder")
    text = _text(options, family)
    lines.append(f"{text}: encoded text" if text else "no text: zeros in its place")
    loras, taught = [], None
    for lora, scale in map(parse_lora, options.lora.split(",") if options.lora else ()):
        if (found := taught_by(lora)) is not None:
            taught = _taught(found, scale, family, taught)
            lines.append(f"{lora}: taught it to edit windows of {taught.length} frames of {taught.canvas} px")
            continue
        changes = read_lora(lora)
        check_pair(base, lora=shapes_of(changes))
        loras.append((changes, scale))
        lines.append(f"{lora}: a LoRA of {len(changes)} modules, times {scale:g}")
    return Parts(family, files, adapter, vae, encoders, image_encoder, text, tuple(loras), taught, tuple(lines))


def _taught(found: Taught, scale: float, family: Family, other: Taught | None) -> Taught:
    """Return what taught the model to edit, if it can. Raises OptionError or WeightsError."""
    check_family(found, family.key)
    if other is not None:
        raise OptionError(f"lora: {other.path} and {found.path} both taught the model to edit: give only one of them")
    if scale != 1:
        raise OptionError(f"lora: {found.path} is taken whole or not at all: leave ':{scale:g}' out")
    return found


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _vae(options: DubOptions, family: Family, places: list[Path]) -> Path:
    if options.vae:
        given = Path(options.vae)
        return given / "vae" if (given / "vae").is_dir() else given
    names = VAES[family.size.latents]
    found = next((place / name for place in places for name in names if (place / name).exists()), None)
    if found is None:
        raise OptionError(
            f"{family.title} needs its autoencoder, and {places[0]} has neither {' nor '.join(names)}: give --vae"
        )
    return found


def _encoders(options: DubOptions, family: Family, places: list[Path]) -> Iterator[tuple[Path, Needs]]:
    """Yield a folder for each speech encoder that the family hears with."""
    given = [Path(text.strip()) for text in options.audio_encoder.split(",")] if options.audio_encoder else None
    if family.audio is None:
        if given:
            raise OptionError(f"audio_encoder: {family.title} hears no speech; leave it out, or give --adapter")
        return
    kinds = {str(config_of(folder).get("model_type")): folder for folder in given or ()}
    for needs in NEEDS[family.audio]:
        near = next((place / needs.published for place in places if (place / needs.published).is_dir()), None)
        folder = kinds.get(needs.kind) if given else near
        if folder is None:
            every = ",".join(f"FOLDER of {each.published}" for each in NEEDS[family.audio])
            raise OptionError(f"{family.title} hears with {needs.published}: give --audio-encoder {every}")
        check_encoder(folder, needs)
        yield folder, needs


def _image_encoder(options: DubOptions, family: Family, places: list[Path]) -> Path | None:
    if not family.clip:
        if options.image_encoder:
            raise OptionError(f"image_encoder: {family.title} sees with none; leave it out")
        return None
    near = next((place / IMAGE_ENCODER for place in places if (place / IMAGE_ENCODER).is_dir()), None)
    folder = Path(options.image_encoder) if options.image_encoder else near
    if folder is None:
        raise OptionError(
            f"{family.title} sees with CLIP: give --image-encoder FOLDER, the image_encoder of Wan2.1 I2V"
        )
    check_clip(folder)
    return folder


def _text(options: DubOptions, family: Family) -> Path | None:
    if options.text is None:
        raise OptionError(
            f"{family.title} reads text: give --text FILE, which 'unisync text' writes once, or --text zero for none"
        )
    if options.text == ZERO:
        return None
    if not Path(options.text).is_file():
        raise WeightsError(f"{options.text}: no such file of encoded text; 'unisync text' writes one")
    return Path(options.text)
