"""The sync expert's windows, what it ignores, and its loss."""

from __future__ import annotations

import pytest
import torch

from unisync.nets.expert import MOUTH, Expert, ExpertConfig, mouths_of, sync_loss


@pytest.fixture(scope="module")
def expert() -> Expert:
    torch.manual_seed(0)
    return Expert(ExpertConfig()).eval().requires_grad_(False)


def test_it_is_small(expert: Expert) -> None:
    assert sum(p.numel() for p in expert.parameters()) < 1_000_000


def test_a_window_is_five_frames_and_their_twenty_mel_rows(expert: Expert) -> None:
    mouths, mel = torch.rand(1, 12, 48, 64), torch.randn(1, 48, 80)
    seen, heard = expert.see(mouths), expert.hear(mel)
    assert seen.shape == heard.shape == (1, 8, 128)
    assert torch.allclose(seen.norm(dim=-1), torch.ones(1, 8), atol=1e-5)
    for frame in (0, 5, 11):
        changed = mouths.clone()
        changed[:, frame] = torch.rand(48, 64)
        told = ((expert.see(changed) - seen).abs().amax(-1)[0] > 1e-5).nonzero().flatten().tolist()
        assert told == [i for i in range(8) if i <= frame <= i + 4]
        louder = mel.clone()
        louder[:, 4 * frame + 3] += 3
        told = ((expert.hear(louder) - heard).abs().amax(-1)[0] > 1e-5).nonzero().flatten().tolist()
        assert told == [i for i in range(8) if i <= frame <= i + 4]


def test_light_and_contrast_do_not_matter(expert: Expert) -> None:
    mouths = torch.rand(1, 6, 48, 64)
    assert torch.allclose(expert.see(mouths), expert.see(mouths * 0.6 + 0.3), atol=0.02)


def test_the_mouth_is_the_same_on_canvases_of_any_size() -> None:
    config = ExpertConfig()
    y, x = torch.meshgrid(torch.linspace(0, 1, 256), torch.linspace(0, 1, 256), indexing="ij")
    large = torch.stack([x, y, (x * 9).sin() * 0.5 + 0.5])[None]
    small = torch.nn.functional.interpolate(large, (128, 128), mode="area")
    assert (mouths_of(large, config) - mouths_of(small, config)).abs().max() < 0.02
    wider = mouths_of(small, config, 1.25)
    assert wider.shape == (1, 60, 80)
    assert (wider[:, 6:-6, 8:-8] - mouths_of(small, config)).abs().max() < 0.02


def test_the_loss_pulls_at_the_pixels_of_the_mouth_alone(expert: Expert) -> None:
    pixels = torch.rand(2, 7, 3, 64, 64, requires_grad=True)
    loss = sync_loss(expert, pixels, torch.randn(2, 28, 80))
    loss.backward()  # type: ignore[no-untyped-call]
    assert 0 < loss.item() < 2 and pixels.grad is not None
    left, top, right, bottom = (round(share * 64) for share in MOUTH)
    inside = pixels.grad[..., top:bottom, left:right]
    assert inside.abs().amax((1, 2, 3, 4)).min() > 0
    assert inside.abs().sum() == pytest.approx(pixels.grad.abs().sum().item())


def test_a_step_against_the_loss_brings_lips_nearer_to_the_sound(expert: Expert) -> None:
    torch.manual_seed(1)
    pixels, mel = torch.rand(1, 8, 3, 64, 64), torch.randn(1, 32, 80)
    before = sync_loss(expert, pixels, mel).item()
    for _ in range(10):
        pixels.requires_grad_(True)
        (grad,) = torch.autograd.grad(sync_loss(expert, pixels, mel), pixels)
        pixels = (pixels - 0.01 * grad.sign()).detach()
    assert sync_loss(expert, pixels, mel).item() < before - 0.05


@pytest.mark.parametrize(("frames", "rows"), [(4, 16), (6, 20)])
def test_the_loss_refuses_what_does_not_fit(expert: Expert, frames: int, rows: int) -> None:
    with pytest.raises(ValueError, match="mel rows"):
        sync_loss(expert, torch.rand(1, frames, 3, 64, 64), torch.randn(1, rows, 80))
