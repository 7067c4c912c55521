"""Text for public models: encoded once into a small file by a local UMT5."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel
from typer.testing import CliRunner

from tiny import tiny_weights
from unisync import api
from unisync.backbones.text import read_text
from unisync.cli import app
from unisync.errors import WeightsError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """UMT5 as diffusers saves a pipeline's: as wide as Wan's, a layer deep, with six words."""
    root = tmp_path_factory.mktemp("umt5")
    torch.manual_seed(0)
    words = {"<pad>": 0, "</s>": 1, "<unk>": 2, "a": 3, "person": 4, "speaks": 5}
    config = UMT5Config(vocab_size=len(words), d_model=4096, d_kv=8, d_ff=8, num_layers=1, num_heads=2)
    UMT5EncoderModel(config).save_pretrained(root / "text_encoder")
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    fast.save_pretrained(root / "tokenizer")
    return root


def test_text_is_encoded_once(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "text.safetensors"
    said = CliRunner().invoke(app, ["text", str(folder), "-o", str(out), "--prompt", "a person speaks"])
    assert said.exit_code == 0 and "'a person speaks', not 'blurred" in said.output, said.output
    made, text = load_file(out), read_text(out)
    assert made["prompt"].shape == (4, 4096) and made["prompt"].dtype == torch.bfloat16
    assert text.told == "a person speaks" and text.prompt.shape == text.negative.shape == (1, 512, 4096)
    network = UMT5EncoderModel.from_pretrained(folder / "text_encoder").eval()
    with torch.no_grad():
        wanted = network(torch.tensor([[3, 4, 5, 1]])).last_hidden_state[0]
    assert torch.allclose(text.prompt[0, :4], wanted, atol=0.05 * float(wanted.abs().max()))
    assert not text.prompt[0, 4:].any() and not torch.equal(text.prompt, text.negative)
    assert list(tmp_path.iterdir()) == [out]


def test_without_a_file_there_is_none() -> None:
    text = read_text(None)
    assert not text.prompt.any() and text.prompt.shape == (1, 512, 4096) and text.told == ""


def test_other_files_and_folders_are_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="holds no encoded text; 'unisync text' writes"):
        read_text(tiny_weights(tmp_path))
    with pytest.raises(WeightsError, match=r"no config\.json in it"):
        api.encode_text(tmp_path, tmp_path / "x.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "t5", "d_model": 512}')
    with pytest.raises(WeightsError, match="a t5 512 wide; Wan reads with UMT5-XXL"):
        api.encode_text(tmp_path, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match="no folder to write it to"):
        api.encode_text(folder, tmp_path / "none" / "x.safetensors")
