"""The loss law: whatever is rebuilt, the first steps give the losses they gave, in float32 with one thread."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from unisync.nets.audio import AudioConfig, AudioEncoder
from unisync.nets.transformer import Transformer, TransformerConfig
from unisync.nets.vae import FaceVae, VaeConfig
from unisync.training.audio import AudioRecipe, audio_loss
from unisync.training.clips import Clip, Sampler, silence_of
from unisync.training.loop import Batch, Job, Loop, Terms
from unisync.training.transformer import TransformerRecipe, loss_of
from unisync.training.vae import VaeRecipe, vae_loss

SMALL = TransformerConfig(
    channels=4, width=24, layers=2, heads=2, ffn=48, frequencies=32, audio_width=16, audio_layers=(1,), pose_grid=(2, 4, 4),
    prediction="data",
)  # fmt: skip
EXPECTED = [
    2.5943312644958496, 2.1491732597351074, 2.1457085609436035, 2.699591636657715,
    1.1729625463485718, 1.6207787990570068, 2.165907859802246, 2.2525646686553955,
]  # fmt: skip
CLOSE = 1e-5
"""Equal to the bit on the processor that wrote them; others multiply matrices in another order."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def drawn_clips() -> list[Clip]:
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    clips = []
    for i in range(3):
        num = 24 + 8 * i
        mask = torch.zeros(num, 8, 8, dtype=torch.bool)
        mask[:, 3:7, 2:6] = True
        latents, neutral, pose = (draw(num, 4, 8, 8).half() for _ in range(3))
        lips, seconds = draw(num, 6), torch.arange(num).double() / 25
        features = None if i == 2 else draw(80, 16)
        clips.append(Clip(f"c{i}", latents, neutral, latents, latents, pose, mask, lips, seconds, 3, features, f"s{i}"))
    return clips


def test_the_transformers_first_steps(tmp_path: Path) -> None:
    recipe = TransformerRecipe(
        steps=8, minutes=0, schedule="constant", precision="fp32", batch=4, frames=4, transplant=0.0, lent=0.0,
        learning_rate=3e-3, warmup=3, log_every=1,
    )  # fmt: skip
    torch.manual_seed(0)
    audio = AudioEncoder(AudioConfig(width=16))
    torch.manual_seed(recipe.seed)
    sampler = Sampler(drawn_clips(), recipe, SMALL, silence_of(audio))
    losses = []

    def loss(network: Transformer, batch: Batch) -> Terms:
        value = loss_of(network, batch, recipe)
        losses.append(value.item())
        return {"velocity": value}

    torch.manual_seed(recipe.seed)
    Loop(Job(Transformer(SMALL), sampler.draw, loss, {}, sampler.random), recipe, tmp_path).run()
    assert losses == pytest.approx(EXPECTED, rel=CLOSE)


def test_the_autoencoders_loss_and_gradient() -> None:
    torch.manual_seed(0)
    vae = FaceVae(VaeConfig(latent_channels=4, width=16, deep_width=16))
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    torch.manual_seed(1)
    loss = vae_loss(vae, x, VaeRecipe())
    loss.backward()
    gradient = sum(float(p.grad.abs().sum()) for p in vae.parameters() if p.grad is not None)
    assert (loss.item(), gradient) == pytest.approx((1.1642742156982422, 1.5878816843032837), rel=CLOSE)


def test_the_audio_encoders_loss_and_gradient() -> None:
    torch.manual_seed(0)
    net = AudioEncoder(AudioConfig(width=16))
    mel, truth, valid = torch.randn(2, 192, 80), torch.randn(2, 96, 6), torch.ones(2, 96, 1)
    valid[1, 60:] = 0
    torch.manual_seed(1)
    loss = audio_loss(net, mel, truth, valid, AudioRecipe())
    loss.backward()
    gradient = sum(float(p.grad.abs().sum()) for p in net.parameters() if p.grad is not None)
    assert (loss.item(), gradient) == pytest.approx((0.9486611485481262, 9.636212348937988), rel=CLOSE)
