"""What this machine and its files are fit for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from unisync.options import DubOptions, Storage

if TYPE_CHECKING:
    from unisync.doctor import Check
    from unisync.models import Found


def doctor() -> Iterator[Check]:
    """Yield what was found on this machine, one check at a time."""
    from unisync.doctor import check_all

    return check_all()


def recognise(
    backbone: Path | str,
    *,
    adapter: Path | str | None = None,
    vae: Path | str | None = None,
    loras: Iterable[Path | str] = (),
) -> Iterator[str]:
    """Yield what a large public model's files are, a line each. Raises WeightsError at the first that does not go with it.

    Only the headers are read, but of a LoRA all.
    """
    from unisync.nets.wan.editing import check_family, taught_by
    from unisync.nets.wan.files import WeightFiles
    from unisync.nets.wan.lora_files import read_lora, shapes_of
    from unisync.nets.wan.recognise import check_pair, vae_latents

    files = WeightFiles(Path(backbone))
    base = kind = files.recognise()
    yield f"{backbone}: {base.line}; {files.precision}"
    if adapter is not None:
        added = WeightFiles(Path(adapter))
        kind = added.recognise()
        check_pair(base, kind)
        yield f"{adapter}: {kind.line}; {added.precision}"
    if vae is not None:
        latents = vae_latents(WeightFiles(Path(vae)).shapes, vae)
        check_pair(base, latents=latents)
        yield f"{vae}: an autoencoder of {latents} channels"
    for path in map(Path, loras):
        if (taught := taught_by(path)) is not None:
            check_family(taught, kind.family)
            yield f"{path}: taught it to edit windows of {taught.length} frames of {taught.canvas} px"
            continue
        changes = read_lora(path)
        check_pair(base, lora=shapes_of(changes))
        yield f"{path}: a LoRA of {len(changes)} modules"


def parts(options: DubOptions) -> tuple[str, ...]:
    """Return what the parts of the public model are that the options name, a line each; nothing where they name none.

    Raises UnisyncError, before any film is looked at, if one is missing or does not go with the others.
    """
    from unisync.registry import names

    if options.backbone is None or options.backbone in names("backbone"):
        return ()
    from unisync.backbones.wan.parts import gather

    return gather(options).lines


def encode_text(
    folder: Path | str, out: Path | str, *, prompt: str | None = None, negative: str | None = None
) -> tuple[str, str]:
    """Write text for a model that reads to the file `out`, as UMT5 in a local folder encodes it; return what it says.

    negative: what is not wanted.  Raises WeightsError.
    """
    from unisync.backbones import text

    said = text.PROMPT if prompt is None else prompt, text.NEGATIVE if negative is None else negative
    text.encode_text(Path(folder), Path(out), *said)
    return said


def plan_memory(
    backbone: Path | str,
    *,
    adapter: Path | str | None = None,
    canvas: int = 512,
    length: int = 81,
    vram: float | None = None,
    storage: Storage | None = None,
) -> list[str]:
    """Return lines on how a large public model would lie in memory, and what a step would cost, before anything is loaded.

    canvas: its side in pixels.  length: frames painted at once.  vram: gigabytes; None is no limit.
    Raises OptionError, which says what would fit, if it is too little.
    """
    from unisync.nets.wan import memory
    from unisync.nets.wan.files import WeightFiles

    files = [WeightFiles(Path(path)) for path in (backbone, adapter) if path is not None]
    work = memory.Work(files[-1].recognise().family, canvas, length)
    limit = None if vram is None else vram * 1e9
    return memory.plan_memory(work, limit, storage or memory.storage_of(files[0].precision)).lines


def models_folder(folder: Path | str | None = None) -> Path:
    """Return the folder in which published weights are looked for, unless one is chosen."""
    from unisync import models

    return models.models_folder(None if folder is None else Path(folder))


def list_methods() -> list[str]:
    """Return the names of what can paint lips."""
    from unisync import registry

    return registry.names("method")


def list_models(folder: Path | str | None = None) -> list[Found]:
    """Return how every known file of published weights stands."""
    from unisync import models

    place = models_folder(folder)
    return [models.stand(model, place) for model in models.MODELS]


def model_rows(folder: Path | str | None = None) -> list[dict[str, str]]:
    """Return the same as a table for people."""
    return [
        {"file": f.model.name, "state": f.state, "for": f.model.use, "by": f.model.source, "terms": f.model.terms}
        for f in list_models(folder)
    ]


def check_models(folder: Path | str | None = None) -> Iterator[Found]:
    """Yield how every file that is there stands once it was read as its network does, one at a time."""
    from unisync.errors import WeightsError
    from unisync.nets.published import FILES, load_published

    for found in list_models(folder):
        if found.model.name in FILES and found.state in ("whole", "sum not known"):
            try:
                load_published(found.model.name, found.path)
            except WeightsError as error:
                found = replace(found, state="damaged", problem=str(error))
            else:
                found = found if found.state == "whole" else replace(found, state="sum not known, its tensors fit")
        if found.state != "missing":
            yield found
