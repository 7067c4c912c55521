"""The transformer: Wan's shape, its conditions, and starts that leave a base model as it was."""

from __future__ import annotations

import pytest
import torch

from unisync.nets.attention import rotary_angles, rotary_table, rotate
from unisync.nets.patch import expand_patch_embedding
from unisync.nets.pose import PoseEncoder
from unisync.nets.transformer import (
    Condition,
    Transformer,
    TransformerConfig,
)

CONFIG = TransformerConfig(
    channels=4, width=48, layers=2, heads=4, ffn=96, frequencies=32, audio_width=10, audio_tokens=3, audio_layers=(1,),
    lip_width=6, pose_grid=(2, 3, 3), text_width=12,
)  # fmt: skip


def awake(config: TransformerConfig = CONFIG, seed: int = 0) -> Transformer:
    """Return a network whose zero-born parts are moved, so that every input can show."""
    torch.manual_seed(seed)
    net = Transformer(config)
    with torch.no_grad():
        for parameter in net.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.2)
    return net.eval()


def condition(frames: int = 3, size: int = 6, batch: int = 1, **changes: torch.Tensor | None) -> Condition:
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    values: dict[str, torch.Tensor | None] = {
        "source": draw(batch, 4, frames, size, size),
        "seconds": torch.arange(frames).expand(batch, -1) / 25,
        "pose": draw(batch, 4, frames, size, size),
        "audio": draw(batch, frames, 3, 10),
        "lips": draw(batch, frames, 6),
        "text": draw(batch, 5, 12),
    }
    return Condition(**(values | changes))  # type: ignore[arg-type]


def run(net: Transformer, given: Condition, seed: int = 2) -> torch.Tensor:
    z = torch.randn(given.source.shape, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return net(z, torch.full((len(z),), 0.6), given)


@pytest.mark.parametrize(("frames", "size"), [(1, 4), (3, 6), (5, 10)])
def test_any_length_and_size(frames: int, size: int) -> None:
    given = condition(frames, size)
    assert run(awake(), given).shape == given.source.shape


@pytest.mark.parametrize("name", ["source", "pose", "audio", "lips", "text", "seconds"])
def test_every_condition_is_heard(name: str) -> None:
    net, given = awake(), condition()
    value = getattr(given, name)
    other = condition(**{name: value * 1.7 + 0.1 if name != "seconds" else value * 2})
    assert (run(net, given) - run(net, other)).abs().max() > 1e-4


def test_dropped_audio_and_lips_are_not_heard() -> None:
    net, off = awake(), torch.zeros(1)
    one = condition(keep_audio=off, keep_lips=off)
    two = condition(keep_audio=off, keep_lips=off, audio=torch.zeros(1, 3, 3, 10), lips=torch.zeros(1, 3, 6))
    assert torch.equal(run(net, one), run(net, two))


def test_clips_of_a_batch_do_not_mix() -> None:
    net = awake()
    both = condition(batch=2)
    z = torch.randn(both.source.shape, generator=torch.Generator().manual_seed(2))
    fields = ("source", "seconds", "pose", "audio", "lips", "text")
    second = Condition(**{name: getattr(both, name)[1:] for name in fields})
    with torch.no_grad():
        together = net(z, torch.tensor([0.3, 0.6]), both)[1:]
        alone = net(z[1:], torch.tensor([0.6]), second)
    assert torch.allclose(together, alone, atol=1e-5)


def test_a_new_network_changes_nothing() -> None:
    torch.manual_seed(0)
    assert not run(Transformer(CONFIG), condition()).any()


def test_time_is_seconds_not_frame_numbers() -> None:
    # Two frames .04 s apart are rotated alike whatever the numbering; only differences matter.
    net, given = awake(), condition()
    later = condition(seconds=given.seconds + 3.0)
    assert torch.allclose(run(net, given), run(net, later), atol=1e-4)


def test_rotation_keeps_length_and_depends_on_differences_alone() -> None:
    angles = rotary_angles(torch.tensor([[0.0, 2.0, 7.0]]), (3, 2, 2), 24)
    assert angles.shape == (1, 12, 12)
    x = torch.randn(1, 1, 12, 24)
    turned = rotate(x, rotary_table(angles, torch.float32))
    assert torch.allclose(turned.norm(dim=-1), x.norm(dim=-1), atol=1e-5)
    slow = torch.view_as_complex(x.unflatten(-1, (-1, 2))) * torch.polar(torch.ones_like(angles), angles)[:, None]
    assert torch.allclose(turned, torch.view_as_real(slow).flatten(-2), atol=1e-5)
    q = torch.randn(24).expand(1, 1, 12, 24)
    shifted = rotary_angles(torch.tensor([[5.0, 7.0, 12.0]]), (3, 2, 2), 24)
    one, two = (rotate(q, rotary_table(a, torch.float32)) for a in (angles, shifted))
    assert torch.allclose(one @ one.mT, two @ two.mT, atol=1e-3)


def test_zero_expansion_leaves_the_base_model_bit_for_bit() -> None:
    # A base model of C channels is the network whose embedding sees the noisy half only (Eq 2).
    base = awake()
    weight = base.patch_embedding.weight[:, :4].detach()
    with torch.no_grad():
        base.patch_embedding.weight.copy_(expand_patch_embedding(weight, 8))
    given = condition(pose=None)
    blind = condition(pose=None, source=torch.zeros_like(given.source))
    assert torch.equal(run(base, given), run(base, blind))
    with pytest.raises(ValueError, match="channels"):
        expand_patch_embedding(base.patch_embedding.weight, 4)


def test_pose_is_added_behind_a_gate_born_at_zero() -> None:
    torch.manual_seed(0)
    encoder = PoseEncoder(4, 16, (1, 2, 2), (2, 3, 3))
    pose = torch.randn(1, 4, 3, 6, 8)
    assert encoder(pose).shape == (1, 3, 3, 4, 16) and not encoder(pose).any()
    with torch.no_grad():
        encoder.gate.fill_(1)
    tokens = encoder(pose)
    assert torch.allclose(tokens.mean(-1), torch.zeros(1, 3, 3, 4), atol=1e-5)  # Eq 7: normalised last
    assert torch.allclose(tokens.var(-1, unbiased=False), torch.ones(1, 3, 3, 4), atol=1e-3)


def test_patch_embedding_equals_the_convolution() -> None:
    net = awake()
    x = torch.randn(2, 8, 3, 6, 6)
    embedding = net.patch_embedding
    slow = torch.nn.functional.conv3d(x, embedding.weight, embedding.bias, stride=embedding.patch)
    assert torch.allclose(embedding(x), slow.permute(0, 2, 3, 4, 1), atol=1e-5)


@pytest.mark.parametrize(("size", "billions"), [("1.3B", (1.3, 1.8)), ("5B", (4.9, 6.5)), ("14B", (13.5, 19.0))])
def test_wan_sizes_stand_on_the_meta_device(size: str, billions: tuple[float, float]) -> None:
    with torch.device("meta"):
        net = Transformer(TransformerConfig.wan(size))  # type: ignore[arg-type]
    assert billions[0] < sum(p.numel() for p in net.parameters()) / 1e9 < billions[1]
    names = dict(net.named_parameters())
    wanted = "blocks.0.self_attn.q.weight blocks.0.ffn.2.bias blocks.0.modulation time_projection.1.weight"
    wanted += " text_embedding.2.weight head.head.weight head.modulation patch_embedding.weight"
    assert set(wanted.split()) <= set(names)


def test_training_step_moves_every_part() -> None:
    torch.manual_seed(0)
    net = Transformer(CONFIG)
    optimizer = torch.optim.SGD(net.parameters(), 0.5)
    given = condition()
    for _ in range(4):  # gates are born at zero: what lies behind them moves a step later
        optimizer.zero_grad()
        z = torch.randn(given.source.shape)
        (net(z, torch.full((1,), 0.5), given) - torch.randn_like(z)).square().mean().backward()
        optimizer.step()
    still = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert set(still) <= {"audio_projection.null_audio", "audio_projection.null_lips"}
