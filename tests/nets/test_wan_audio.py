"""How public models hear: each network equals its authors' equations, worked out token by token."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import slow_wan as slow
from unisync.nets.transformer import Condition, Transformer, TransformerConfig
from unisync.nets.wan.fantasytalking import FantasyTalking, hearing_range
from unisync.nets.wan.multitalk import MultiTalk
from unisync.nets.wan.s2v import SpeechToVideo, TalkVerse
from unisync.nets.wan.xdub import XDub

FRAMES, H, W, HEADS, LAYERS, CHANNELS, FEATURE = 3, 4, 6, 2, 2, 4, 6
TOKENS = H * W // 4
CONFIG = TransformerConfig(
    channels=CHANNELS, editing=False, width=48, layers=LAYERS, heads=HEADS, ffn=64, frequencies=32, text_width=16,
    audio_width=FEATURE, audio_layers=(0, 1), lip_width=0, positions_per_second=4.0, pose_grid=None,
)  # fmt: skip
CLOSE = 1e-5
SIGMA = 0.003
"""Small, that float32 phases are as good as float64's."""


class SmallXDub(XDub):
    inner = 128


KINDS: dict[type[Transformer], int] = {
    MultiTalk: 8 * 12, FantasyTalking: 0, TalkVerse: 4 * 25, SpeechToVideo: 4 * 25, SmallXDub: 8
}  # fmt: skip
"""How many features of a latent frame a network takes; 0: it takes those of the clip."""


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def awake(kind: type[Transformer], config: TransformerConfig = CONFIG) -> Transformer:
    torch.manual_seed(1)
    net = kind(config).double().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(0, 0.3)
    return net


def audio_of(kind: type[Transformer]) -> Tensor:
    return draw(1, FRAMES, KINDS[kind], FEATURE, seed=5) if KINDS[kind] else draw(1, 21, FEATURE, seed=5)


def given(kind: type[Transformer], **parts: Tensor | None) -> Condition:
    values: dict[str, Tensor | None] = {
        "source": draw(1, CHANNELS, FRAMES, H, W, seed=6),
        "seconds": torch.arange(FRAMES)[None] / 4,
        "text": draw(1, 5, 16, seed=7),
        "audio": audio_of(kind),
    }
    if kind in (TalkVerse, SpeechToVideo):
        values["reference"] = draw(1, CHANNELS, 1, H, W, seed=8)
    if kind is SmallXDub:
        values["reference"] = draw(1, CHANNELS, FRAMES, H, W, seed=8)
    if kind is SpeechToVideo:
        values["pose"] = draw(1, CHANNELS, FRAMES, H, W, seed=9)
    return Condition(**(values | parts))  # type: ignore[arg-type]


NOISY = draw(1, CHANNELS, FRAMES, H, W, seed=4)


@torch.no_grad()
def ours(net: Transformer, condition: Condition, sigma: float = SIGMA) -> Tensor:
    return net(NOISY, torch.tensor([sigma]).double(), condition)[0]


def places(frames: int, time: float = 0, row: int = 0, column: int = 0) -> list[tuple[float, float, float]]:
    return [(time + f, row + r, column + c) for f in range(frames) for r in range(H // 2) for c in range(W // 2)]


def start(state: slow.State) -> slow.Sequence:
    """Return the sequence of the painted film alone."""
    num = FRAMES * TOKENS
    return slow.Sequence(slow.patches(state, NOISY[0]), places(FRAMES), [SIGMA] * num, num, num)


def finish(state: slow.State, sequence: slow.Sequence, condition: Condition) -> Tensor:
    assert condition.text is not None
    out = slow.run(state, sequence, condition.text[0], HEADS, LAYERS, 32)
    return slow.picture(out, CHANNELS, FRAMES, H, W)


def check(net: Transformer, wanted: Tensor, condition: Condition) -> None:
    got = ours(net, condition)
    assert wanted.abs().max() > 0.5
    assert (got - wanted).abs().max() < CLOSE
    assert condition.audio is not None
    deaf = ours(net, replace(condition, audio=None))
    assert (got - deaf).abs().max() > 1e-2  # so that what is compared is heard


def framewise(x: Tensor, heard: list[Tensor]) -> Tensor:
    """Return tokens (N, D) with what each frame's tokens heard added."""
    return x + torch.cat([*heard, torch.zeros(len(x) - len(heard) * TOKENS, x.shape[1]).double()])


def test_wan_itself() -> None:
    net = awake(Transformer, replace(CONFIG, audio_width=0))
    condition = given(MultiTalk, audio=None)
    wanted = finish(net.state_dict(), start(net.state_dict()), condition)
    assert (ours(net, condition) - wanted).abs().max() < CLOSE


def test_multitalk() -> None:
    net, condition = awake(MultiTalk), given(MultiTalk)
    state = net.state_dict()
    assert condition.audio is not None
    contexts = []
    for f, features in enumerate(condition.audio[0]):
        first = f == 0
        flat = (features[: 5 * 12] if first else features).reshape(1, -1)
        y = slow.linear(state, "audio_proj.proj1" if first else "audio_proj.proj1_vf", flat).clamp(min=0)
        y = slow.linear(state, "audio_proj.proj3", slow.linear(state, "audio_proj.proj2", y).clamp(min=0))
        contexts.append(slow.norm(y.view(32, FEATURE), 1e-5, state, "audio_proj.norm"))

    def hear(block: str, x: Tensor) -> Tensor:
        name, heard = f"{block}.audio_cross_attn", []
        y = slow.norm(x, state=state, name=f"{block}.norm_x")
        for f, context in enumerate(contexts):
            q = slow.linear(state, f"{name}.q_linear", y[f * TOKENS : (f + 1) * TOKENS])
            both = slow.linear(state, f"{name}.kv_linear", context).view(32, 2, -1)
            heard.append(slow.linear(state, f"{name}.proj", slow.softmax_over(q, both[:, 0], both[:, 1], HEADS)))
        return framewise(x, heard)

    sequence = start(state)
    sequence.hear = hear
    check(net, finish(state, sequence, condition), condition)


def test_what_a_latent_frame_hears_in_fantasytalking() -> None:
    # The authors' own example: [-7, 1], [1, 9], ..., [165, 173] of 175 features, and 4 more to either side.
    found = hearing_range(175, 21)
    assert len(found) == 21
    assert (found[0], found[1], found[-1]) == ((0, 5), (0, 13), (161, 174))
    assert hearing_range(9, 3) == [(0, 4), (0, 8), (0, 8)]


def test_fantasytalking_needs_two_latent_frames() -> None:
    with pytest.raises(ValueError, match="at least 2 latent frames at once, not 1; take a longer window"):
        hearing_range(9, 1)


def test_fantasytalking() -> None:
    config = replace(CONFIG, image_width=10)
    net, condition = awake(FantasyTalking, config), given(FantasyTalking, image=draw(1, 7, 10, seed=11))
    state = net.state_dict()
    assert condition.audio is not None and condition.image is not None
    sound = slow.norm(slow.linear(state, "proj_model.proj", condition.audio[0]), 1e-5, state, "proj_model.norm")
    image = slow.linear(state, "img_emb.proj.1", slow.norm(condition.image[0], 1e-5, state, "img_emb.proj.0"))
    image = slow.norm(slow.linear(state, "img_emb.proj.3", slow.gelu(image)), 1e-5, state, "img_emb.proj.4")

    # The authors' ranges over 21 features of 9 film frames, by hand: 2.33 a film frame, 9.33 a latent frame, 4 to either
    # side; the second frame's middle is int(7) - 1 = 6, the third's int(16.3) - 1 = 15; then 4 more to either side.
    ranges = [(2 - 8 - 4, 2 + 4), (2 - 4, 10 + 4), (11 - 4, 19 + 4)]
    windows = [sound[max(first, 0) : last + 1] for first, last in ranges]

    def read(state: slow.State, block: str, x: Tensor, text: Tensor, heads: int) -> Tensor:
        name = f"{block}.cross_attn"
        q = slow.rms(state, f"{name}.norm_q", slow.linear(state, f"{name}.q", x))
        y = torch.zeros_like(q)
        for keys, values, key_norm, context in (("k", "v", "norm_k", text), ("k_img", "v_img", "norm_k_img", image)):
            k = slow.rms(state, f"{name}.{key_norm}", slow.linear(state, f"{name}.{keys}", context))
            y = y + slow.softmax_over(q, k, slow.linear(state, f"{name}.{values}", context), heads)
        for f, window in enumerate(windows):
            k, v = slow.linear(state, f"{name}.k_proj", window), slow.linear(state, f"{name}.v_proj", window)
            part = slice(f * TOKENS, (f + 1) * TOKENS)
            y[part] = y[part] + slow.softmax_over(q[part], k, v, heads)
        return slow.linear(state, f"{name}.o", y)

    sequence = start(state)
    sequence.read = read
    check(net, finish(state, sequence, condition), condition)


def causal(state: slow.State, name: str, x: Tensor, stride: int = 1) -> Tensor:
    """Return a convolution over time (T, C), three moments at a time, the first standing for what was before."""
    weight, bias = state[f"{name}.conv.weight"], state[f"{name}.conv.bias"]
    return torch.stack(
        [bias + sum(weight[:, :, j] @ x[max(t + j - 2, 0)] for j in range(3)) for t in range(0, len(x), stride)]
    )


def encoded(state: slow.State, audio: Tensor) -> Tensor:
    """Return S2V's tokens (F, 1 + 5, D) of sound (F, 4 * 25, C)."""
    name = "casual_audio_encoder.encoder"
    states = audio.reshape(-1, 25, FEATURE)
    weights = slow.silu(state["casual_audio_encoder.weights"].flatten())
    x = sum(weights[i] * states[:, i] for i in range(25)) / weights.sum()
    x = torch.cat([x[:1].repeat(73, 1), x])

    def shrink(y: Tensor) -> Tensor:
        for conv in ("conv2", "conv3"):
            y = causal(state, f"{name}.{conv}", slow.silu(slow.norm(y)), 2)
        return slow.silu(slow.norm(y))

    quarter = 48 // 4
    local = causal(state, f"{name}.conv1_local", x)
    tokens = [shrink(local[:, n * quarter : (n + 1) * quarter]) for n in range(4)]
    whole = slow.linear(state, f"{name}.final_linear", shrink(causal(state, f"{name}.conv1_global", x)))
    padding = state[f"{name}.padding_tokens"][0, 0].expand(len(whole), -1)
    return torch.stack([whole, *tokens, padding], dim=1)[19:]


@pytest.mark.parametrize(("kind", "pose"), [(TalkVerse, False), (SpeechToVideo, False), (SpeechToVideo, True)])
def test_speech_to_video(kind: type[TalkVerse], pose: bool) -> None:
    config = replace(CONFIG, audio_layers=(1,))
    net, condition = awake(kind, config), given(kind) if pose else given(kind, pose=None)
    state = net.state_dict()
    assert condition.audio is not None and condition.reference is not None
    audio = encoded(state, condition.audio[0])
    assert len(audio) == FRAMES
    sequence = start(state)
    if kind is SpeechToVideo:
        latents = condition.pose[0] if condition.pose is not None else torch.zeros(CHANNELS, FRAMES, H, W).double()
        sequence.tokens = sequence.tokens + slow.patches(state, latents, "cond_encoder")
    mark = state["trainable_cond_mask.weight"]
    reference = slow.patches(state, condition.reference[0]) + mark[1]
    sequence.tokens = torch.cat([sequence.tokens + mark[0], reference])
    sequence.places = sequence.places + places(1, time=30 if kind is SpeechToVideo else 40)
    sequence.sigmas = sequence.sigmas + [0.0] * TOKENS
    sequence.readers = len(sequence.tokens)

    def after(index: int, x: Tensor) -> Tensor:
        if index != 1:
            return x
        heard = []
        for f in range(FRAMES):
            said = slow.linear(state, "audio_injector.injector_adain_layers.0.linear", slow.silu(audio[f, :1]))[0]
            y = slow.norm(x[f * TOKENS : (f + 1) * TOKENS], 1e-5) * (1 + said[48:]) + said[:48]
            heard.append(slow.asked(state, "audio_injector.injector.0", y, audio[f, 1:], HEADS))
        return framewise(x, heard)

    sequence.after = after
    check(net, finish(state, sequence, condition), condition)


def embedded(state: slow.State, features: Tensor) -> Tensor:
    """Return X-Dub's tokens (8, D) of a latent frame's features (8, C)."""
    x, inner = slow.linear(state, "audio_embedding.proj_in", features), SmallXDub.inner
    at = torch.zeros(8, inner).double()
    for n in range(8):
        for i in range(0, inner, 2):
            angle = n * 10000 ** (-i / inner)
            at[n, i], at[n, i + 1] = math.sin(angle), math.cos(angle)
    for index in range(4):
        name = f"audio_embedding.layers.{index}"
        y = slow.norm(x, 1e-5, state, f"{name}.norm1") + at
        q, k, v = (slow.linear(state, f"{name}.attn.to_{part}", y) for part in "qkv")
        x = x + slow.linear(state, f"{name}.attn.to_out.0", slow.softmax_over(q, k, v, inner // 64))
        y = slow.linear(state, f"{name}.ff.net.0.proj", slow.norm(x, 1e-5, state, f"{name}.norm2"))
        x = x + slow.linear(state, f"{name}.ff.net.2", y[:, : 4 * inner] * slow.gelu(y[:, 4 * inner :]))
    return slow.linear(state, "audio_embedding.proj_out", x)


def test_xdub() -> None:
    net, condition = awake(SmallXDub), given(SmallXDub)
    state = net.state_dict()
    assert condition.audio is not None and condition.reference is not None
    audio = [embedded(state, features) for features in condition.audio[0]]
    sequence = start(state)
    sequence.tokens = torch.cat([sequence.tokens, slow.patches(state, condition.reference[0])])
    sequence.places = sequence.places + places(FRAMES, row=H // 2, column=W // 2)
    sequence.sigmas = sequence.sigmas + [0.0] * (FRAMES * TOKENS)

    def hear(block: str, x: Tensor) -> Tensor:
        y = slow.norm(x, state=state, name=f"{block}.norm4")
        frames = [y[f * TOKENS : (f + 1) * TOKENS] for f in range(FRAMES)]
        name = f"{block}.audio_attn"
        return framewise(x, [slow.asked(state, name, y, audio[f], HEADS) for f, y in enumerate(frames)])

    sequence.hear = hear
    check(net, finish(state, sequence, condition), condition)


@pytest.mark.parametrize("kind", KINDS)
def test_born_mute(kind: type[Transformer]) -> None:
    """A network into which nothing of the sound's has been loaded gives what its base gives, bit for bit."""
    base = awake(Transformer, replace(CONFIG, audio_width=0))
    torch.manual_seed(2)
    net = kind(CONFIG).double().eval()
    missing, unknown = net.load_state_dict(base.state_dict(), strict=False)
    assert missing and not unknown
    condition = given(kind, reference=None)
    assert torch.equal(ours(net, condition), ours(base, condition))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_told_is_what_the_authors_leave_out(kind: type[Transformer]) -> None:
    net, condition = awake(kind), given(kind)
    assert condition.audio is not None
    silent = None if kind is FantasyTalking else torch.zeros_like(condition.audio)
    told, untold = (ours(net, replace(condition, keep_audio=torch.tensor([keep]))) for keep in (1.0, 0.0))
    assert torch.equal(told, ours(net, condition))
    torch.testing.assert_close(untold, ours(net, replace(condition, audio=silent)), rtol=0, atol=1e-9)
    assert (told - untold).abs().max() > 1e-2


def test_single_frames_are_told_where_that_can_be() -> None:
    keep = torch.tensor([[1.0, 0.0, 1.0]])
    net, condition = awake(MultiTalk), given(MultiTalk)
    assert condition.audio is not None
    masked = replace(condition, audio=condition.audio * keep[:, :, None, None])
    assert torch.equal(ours(net, replace(condition, keep_audio=keep)), ours(net, masked))
    with pytest.raises(ValueError, match=r"a whole clip or not at all: keep_audio is \(1, 3\)"):
        ours(awake(FantasyTalking), replace(given(FantasyTalking), keep_audio=keep))


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_as_loaded_and_as_trained(kind: type[Transformer]) -> None:
    net, condition = awake(kind), given(kind)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter *= 0.3  # as quiet as a trained network, that rounding does not add up
    wanted = ours(net, condition)
    names = ("source", "text", "audio", "reference", "pose")

    def at(dtype: torch.dtype) -> Condition:
        parts = {name: getattr(condition, name) for name in names}
        return replace(condition, **{name: value.to(dtype) for name, value in parts.items() if value is not None})

    sigma = torch.tensor([SIGMA])
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            trained = net.float()(NOISY.float(), sigma, at(torch.float32))[0]
        loaded = net.bfloat16()(NOISY.bfloat16(), sigma, at(torch.bfloat16))[0]
    for found in (trained, loaded):
        assert found.dtype == torch.bfloat16
        assert (found - wanted).norm() < 0.03 * wanted.norm()


@pytest.mark.parametrize("kind", KINDS)
def test_clips_of_a_batch_do_not_mix(kind: type[Transformer]) -> None:
    net, condition = awake(kind), given(kind)

    def twice(value: Tensor | None) -> Tensor | None:
        return None if value is None else torch.cat([value.flip(-1), value])

    names = ("source", "seconds", "text", "audio", "reference", "pose")
    both = Condition(**{name: twice(getattr(condition, name)) for name in names})  # type: ignore[arg-type]
    both = replace(both, seconds=condition.seconds.expand(2, -1))
    with torch.no_grad():
        together = net(torch.cat([NOISY * 2, NOISY]), torch.tensor([0.5, SIGMA]).double(), both)[1]
    torch.testing.assert_close(together, ours(net, condition), rtol=0, atol=1e-6)
