"""Text for public models: encoded once by UMT5 into a small file, so that the encoder is not needed to dub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unisync.backbones.pretrained import config_of, pretrained
from unisync.errors import WeightsError
from unisync.nets.wan.families import TEXT_WIDTH
from unisync.nets.weights import read_weights, write_tensors

KIND, ZERO, LENGTH = "text", "zero", 512
PROMPT = "a person is speaking to the camera, with clear movements of face, lips and teeth"
NEGATIVE = "blurred, distorted face, deformed teeth, frozen lips, subtitles, overexposed, low quality, worst quality"


@dataclass(frozen=True, eq=False)
class Text:
    """prompt, negative: (1, 512, 4096), zero beyond their words.  told: what they say; empty if there is none."""

    prompt: Tensor
    negative: Tensor
    told: str = ""


def read_text(path: Path | None) -> Text:
    """Return the text in a file that `encode_text` wrote, or none at all. Raises WeightsError if it is another file."""
    if path is None:
        none = torch.zeros(1, LENGTH, TEXT_WIDTH)
        return Text(none, none)
    tensors, spec = read_weights(path)
    if spec.get("kind") != KIND or not {"prompt", "negative"} <= tensors.keys():
        raise WeightsError(f"{path}: holds no encoded text; 'unisync text' writes such a file")
    for name in ("prompt", "negative"):
        if tensors[name].ndim != 2 or tensors[name].shape[1] != TEXT_WIDTH or len(tensors[name]) > LENGTH:
            raise WeightsError(f"{path}: {name} is {tuple(tensors[name].shape)}, not (up to {LENGTH}, {TEXT_WIDTH})")
    return Text(_filled(tensors["prompt"]), _filled(tensors["negative"]), str(spec.get("prompt")))


def encode_text(folder: Path, out: Path, prompt: str = PROMPT, negative: str = NEGATIVE) -> None:
    """Write a prompt and what is not wanted, as UMT5 in a folder encodes them.

    folder: as transformers saves model and tokenizer, or diffusers' folder of a pipeline with both.
    Raises WeightsError if it is another encoder or cannot be read.
    """
    network = folder / "text_encoder" if (folder / "text_encoder").is_dir() else folder
    tokens = folder / "tokenizer" if (folder / "tokenizer").is_dir() else folder
    config = config_of(network)
    if config.get("model_type") != "umt5" or config.get("d_model") != TEXT_WIDTH:
        raise WeightsError(
            f"{network}: a {config.get('model_type')} {config.get('d_model')} wide; Wan reads with UMT5-XXL, {TEXT_WIDTH} wide"
        )
    if not out.absolute().parent.is_dir():
        raise WeightsError(f"{out}: there is no folder to write it to; name one that exists")
    tokenizer = pretrained("AutoTokenizer", tokens)
    encoder: Any = pretrained("UMT5EncoderModel", network, dtype=torch.bfloat16).eval()

    @torch.no_grad()
    def encoded(text: str) -> Tensor:
        given = tokenizer(text, truncation=True, max_length=LENGTH, add_special_tokens=True, return_tensors="pt")
        hidden: Tensor = encoder(given.input_ids, attention_mask=given.attention_mask).last_hidden_state[0]
        return hidden.to(torch.bfloat16).contiguous()

    spec = {"kind": KIND, "prompt": prompt, "negative": negative}
    write_tensors(out, {"prompt": encoded(prompt), "negative": encoded(negative)}, spec)


def _filled(words: Tensor) -> Tensor:
    """Return (1, 512, D) of words (L, D)."""
    return torch.nn.functional.pad(words, (0, 0, 0, LENGTH - len(words)))[None]
