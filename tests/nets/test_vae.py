"""The autoencoder's shapes and its normalisation."""

from __future__ import annotations

import pytest
import torch

from unisync.nets.vae import FaceVae, VaeConfig


@pytest.mark.parametrize("size", [64, 128, 160])
def test_stride_eight_at_any_canvas(size: int) -> None:
    vae = FaceVae(VaeConfig(latent_channels=4, width=16, deep_width=16))
    x = torch.randn(2, 3, size, size)
    z = vae.encode(x)
    assert z.shape == (2, 4, size // 8, size // 8)
    assert vae.decode(z).shape == x.shape


def test_normalisation_cancels() -> None:
    torch.manual_seed(0)
    vae = FaceVae(VaeConfig(latent_channels=4, width=16, deep_width=16)).eval()
    x = torch.randn(1, 3, 64, 64)
    plain = vae.decode(vae.encode(x))
    vae.mean.copy_(torch.tensor([1.0, -2.0, 0.5, 3.0]))
    vae.std.copy_(torch.tensor([2.0, 0.5, 1.5, 1.0]))
    assert torch.allclose(vae.decode(vae.encode(x)), plain, atol=1e-4)
    raw = vae.posterior(x)[0]
    assert torch.allclose(vae.encode(x), (raw - vae.mean[:, None, None]) / vae.std[:, None, None])
