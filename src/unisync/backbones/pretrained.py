"""What is read by transformers: published encoders in local folders, never from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from unisync.errors import WeightsError
from unisync.nets.wan.recognise import some
from unisync.nets.wan.stores import read_json

UNUSED = "masked_spec_embed"
"""What networks have for training alone; published files leave it out."""


def pretrained(kind: str, folder: Path, **more: Any) -> Any:
    """Return what a class of transformers, by its name, makes of a folder.

    Raises WeightsError if it cannot, or if a network would be left with random weights.
    """
    try:
        import transformers
    except ImportError as error:
        raise WeightsError(f"{folder}: reading it needs transformers: pip install 'unisync[wan]'") from error
    transformers.utils.logging.disable_progress_bar()
    wanted = getattr(transformers, kind)
    network = issubclass(wanted, transformers.PreTrainedModel)
    if network:
        more["output_loading_info"] = True
    try:
        made = wanted.from_pretrained(folder, local_files_only=True, **more)
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
        first = next(iter(str(error).splitlines()), "")
        raise WeightsError(f"{folder}: {kind} cannot be read from it ({first}); get it again") from error
    if not network:
        return made
    made, told = made
    missing = sorted(name for name in told["missing_keys"] if not name.endswith(UNUSED))
    if missing:
        raise WeightsError(f"{folder}: {kind} lacks {some(missing)} there; get all of its files again")
    return made


def config_of(folder: Path) -> dict[str, Any]:
    """Return what a folder says that it holds. Raises WeightsError if it does not."""
    if not (folder / "config.json").is_file():
        raise WeightsError(f"{folder}: no config.json in it; give the folder of a model as transformers saves it")
    return read_json(folder / "config.json")
