"""Public models: every published tensor has its place, and files of either layout fill the same network."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from unisync.errors import WeightsError
from unisync.nets.storage import FP8, Fp8Linear
from unisync.nets.transformer import Condition, Transformer
from unisync.nets.wan.families import FAMILIES, Size, family_shapes, whole_shapes
from unisync.nets.wan.files import WeightFiles
from unisync.nets.wan.models import config_of, load_transformer, network_of, transformer_of
from unisync.nets.wan.names import to_diffusers

TINY = Size(256, 2, 64, 4)
T2V, I2V, FANTASY, S2V, TALKVERSE = (
    "wan2.1-t2v-14b",
    "wan2.1-i2v-14b",
    "fantasytalking",
    "wan2.2-s2v-14b",
    "talkverse-5b",
)
FRAMES = 2
State = dict[str, Tensor]


def shapes_of(net: Transformer) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in net.state_dict().items()}


@pytest.mark.parametrize("key", FAMILIES)
def test_every_published_tensor_has_its_place(key: str) -> None:
    with torch.device("meta"):
        assert shapes_of(transformer_of(key)) == whole_shapes(key)


@pytest.mark.parametrize("key", FAMILIES)
def test_an_editing_network_has_a_wider_embedding_and_a_pose_encoder_more(key: str) -> None:
    family = FAMILIES[key]
    with torch.device("meta"):
        found = shapes_of(transformer_of(key, editing=True))
    ours = {name for name in found if name.startswith("pose_encoder.")}
    assert bool(ours) == (not family.pose)  # S2V follows a pose already
    wanted = whole_shapes(key)
    embedding = wanted["patch_embedding.weight"]
    wider = (embedding[0], family.channels_in + family.size.latents, *embedding[2:])
    assert {name: found[name] for name in found if name not in ours} == wanted | {"patch_embedding.weight": wider}


def test_another_size_keeps_the_kind() -> None:
    net = transformer_of(T2V, TINY)
    assert (net.config.width, net.config.heads, net.config.channels_in) == (256, 2, 4)
    assert transformer_of(I2V, TINY).config.channels_in == 4 + 20
    with torch.device("meta"):
        found = transformer_of("x-dub-5b", TINY)
    assert type(found) is network_of("x-dub-5b") and found.config.audio_layers == (0, 1)


def test_a_latent_frame_is_one_rotary_position() -> None:
    film_frames = 4
    for key, rate in ((T2V, 16), ("wan2.2-ti2v-5b", 24), ("multitalk", 25), (FANTASY, 23), (S2V, 16), ("x-dub-5b", 25)):
        assert config_of(key).positions_per_second * film_frames / rate == 1


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let every family be so small that whole files can be written."""
    caches = (family_shapes,)
    for key, family in FAMILIES.items():
        extra = family.channels_in - family.size.latents
        # Two sizes, as there are, that wrong pairs can be told.
        size = TINY if family.size.latents == 16 else replace(TINY, width=384)
        monkeypatch.setitem(FAMILIES, key, replace(family, size=size, channels_in=extra + size.latents))
    for cache in caches:
        cache.cache_clear()
    yield
    monkeypatch.undo()
    for cache in caches:
        cache.cache_clear()


def tensors(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> State:
    draw = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=draw) * 0.1 for name, shape in shapes.items()}


def written(path: Path, state: State) -> WeightFiles:
    save_file(state, path)
    return WeightFiles(path)


def diffusers(state: State) -> State:
    return {to_diffusers(name): value for name, value in state.items()}


def condition(net: Transformer, **parts: Tensor | None) -> Condition:
    draw = torch.Generator().manual_seed(1)

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw)

    config = net.config
    values: dict[str, Tensor | None] = {
        "source": randn(1, config.channels, FRAMES, 4, 4),
        "seconds": torch.arange(FRAMES)[None] / config.positions_per_second,
        "text": randn(1, 3, config.text_width),
        "image": randn(1, 3, config.image_width) if config.image_width else None,
        "extra": randn(1, config.extra, FRAMES, 4, 4) if config.extra else None,
        "audio": randn(1, 11, config.audio_width) if config.audio_width else None,
        "pose": randn(1, config.channels, FRAMES, 4, 4),
    }
    return Condition(**(values | parts))  # type: ignore[arg-type]


@torch.no_grad()
def painted(net: Transformer, given: Condition | None = None) -> Tensor:
    z = torch.randn(1, net.config.channels, FRAMES, 4, 4, generator=torch.Generator().manual_seed(2))
    return net(z, torch.tensor([0.6]), given or condition(net))


@pytest.mark.usefixtures("tiny")
def test_both_layouts_give_the_same_network(tmp_path: Path) -> None:
    state = tensors(whole_shapes(I2V))
    nets = [
        load_transformer(written(tmp_path / f"{name}.safetensors", laid), dtype=torch.float32)
        for name, laid in (("original", state), ("diffusers", diffusers(state)))
    ]
    for net in nets:
        assert net.state_dict().keys() == state.keys()
        assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert torch.equal(painted(nets[0]), painted(nets[1])) and painted(nets[0]).abs().max() > 0.01


@pytest.mark.usefixtures("tiny")
def test_tensors_are_read_once_and_never_two_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = tensors(whole_shapes(T2V))
    files, read = written(tmp_path / "x.safetensors", state), WeightFiles.tensor
    given: dict[str, weakref.ref[Tensor]] = {}

    def tensor(self: WeightFiles, name: str, dtype: torch.dtype | None = None) -> Tensor:
        assert name not in given and sum(each() is not None for each in given.values()) <= 1
        value = read(self, name, dtype)
        given[name] = weakref.ref(value)
        return value

    monkeypatch.setattr(WeightFiles, "tensor", tensor)
    load_transformer(files, editing=True)
    assert given.keys() == state.keys()


@pytest.mark.usefixtures("tiny")
def test_a_dtype_is_taken(tmp_path: Path) -> None:
    files = written(tmp_path / "x.safetensors", tensors(whole_shapes(T2V)))
    net = load_transformer(files, editing=True)
    assert {parameter.dtype for parameter in net.parameters()} == {torch.bfloat16}
    assert {parameter.device.type for parameter in net.parameters()} == {"cpu"}


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("key", [T2V, I2V])
def test_before_training_an_editing_network_gives_what_its_base_gives(tmp_path: Path, key: str) -> None:
    files = written(tmp_path / "x.safetensors", tensors(whole_shapes(key)))
    base = load_transformer(files, dtype=torch.float32)
    net = load_transformer(files, dtype=torch.float32, editing=True)
    assert net.config.channels_in == base.config.channels_in + 4
    assert not net.pose_encoder.gate.any() and net.pose_encoder.proj.weight.any()
    assert torch.equal(painted(net, condition(net)), painted(base, condition(net)))


@pytest.mark.usefixtures("tiny")
def test_an_adapter_is_added_to_its_base(tmp_path: Path) -> None:
    state, more = tensors(whole_shapes(I2V)), tensors(family_shapes(FANTASY), seed=3)
    base = written(tmp_path / "base.safetensors", diffusers(state))
    raw = {
        name
        if name.startswith("proj_model")
        else f"audio_processor.{name}".replace("attn.k", "attn.processor.k"): value
        for name, value in more.items()
    }
    net = load_transformer(base, written(tmp_path / "more.safetensors", raw), dtype=torch.float32)
    wanted = state | more
    assert net.state_dict().keys() == wanted.keys()
    assert all(torch.equal(value, wanted[name]) for name, value in net.state_dict().items())
    assert not torch.equal(painted(net), painted(net, condition(net, audio=None)))


@pytest.mark.usefixtures("tiny")
def test_whole_tensors_and_loras_in_an_adapters_file_go_before_the_bases(tmp_path: Path) -> None:
    state = tensors(whole_shapes("wan2.2-ti2v-5b"))
    more = tensors(family_shapes(TALKVERSE), seed=3)
    own = {"blocks.0.norm3.weight": torch.full((384,), 7.0)}
    draw = torch.Generator().manual_seed(4)
    down, up = torch.randn(8, 384, generator=draw), torch.randn(384, 8, generator=draw)
    query = "blocks.1.self_attn.q"
    lora = {f"model.{query}.lora_A.weight": down, f"model.{query}.lora_B.weight": up}
    net = load_transformer(
        written(tmp_path / "base.safetensors", state),
        written(tmp_path / "more.safetensors", more | own | lora),
        dtype=torch.float32,
    )
    found = net.state_dict()
    assert found["blocks.0.norm3.weight"].eq(7).all()
    torch.testing.assert_close(found[f"{query}.weight"], state[f"{query}.weight"] + up @ down)
    assert torch.equal(found[f"{query}.bias"], state[f"{query}.bias"])


@pytest.mark.usefixtures("tiny")
def test_wrong_pairs_are_refused(tmp_path: Path) -> None:
    fantasy = written(tmp_path / "fantasy.safetensors", tensors(family_shapes(FANTASY)))
    i2v = written(tmp_path / "i2v.safetensors", tensors(whole_shapes(I2V)))
    t2v = written(tmp_path / "t2v.safetensors", tensors(whole_shapes(T2V)))
    with pytest.raises(
        WeightsError, match=r"adapter FantasyTalking \(256 wide\) is for Wan2\.1 I2V 14B and does not go"
    ):
        load_transformer(t2v, fantasy)
    with pytest.raises(WeightsError, match=r"FantasyTalking is an adapter .* give Wan2\.1 I2V 14B as well"):
        load_transformer(fantasy)
    with pytest.raises(WeightsError, match="is a whole transformer and no adapter"):
        load_transformer(i2v, t2v)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("scaled", [True, False])
def test_a_file_in_fp8_is_kept_as_it_is(tmp_path: Path, scaled: bool) -> None:
    state = tensors(whole_shapes(I2V))
    for name in [name for name in state if name.startswith("blocks") and name.endswith("weight")]:
        if state[name].ndim == 2:
            state[name] = (state[name] * (100 if scaled else 1)).to(FP8)
            if scaled:
                state[name.replace("weight", "scale_weight")] = torch.tensor(0.0123)
    files = written(tmp_path / "x.safetensors", state)
    small, whole = load_transformer(files, dtype=FP8), load_transformer(files)
    stored = {name: value for name, value in small.named_parameters() if value.dtype == FP8}
    assert len(stored) == 2 * 12 and all(torch.equal(value, state[name]) for name, value in stored.items())
    assert {value.dtype for name, value in small.named_parameters() if name not in stored} == {torch.bfloat16}
    given = condition(small)
    given = Condition(**{k: v if k == "seconds" else v.bfloat16() for k, v in given.tensors.items()})
    z = torch.randn(1, 4, FRAMES, 4, 4, generator=torch.Generator().manual_seed(2)).bfloat16()
    with torch.no_grad():
        assert torch.equal(small(z, torch.tensor([0.6]), given), whole(z, torch.tensor([0.6]), given))


@pytest.mark.usefixtures("tiny")
def test_other_files_are_rounded_to_fp8_when_that_is_asked(tmp_path: Path) -> None:
    state = tensors(whole_shapes(T2V))
    net = load_transformer(written(tmp_path / "x.safetensors", state), dtype=FP8, editing=True)
    name = "blocks.1.ffn.0"
    layer = net.get_submodule(name)
    assert isinstance(layer, Fp8Linear) and net.head.head.weight.dtype == torch.bfloat16
    near = layer.weight.float() * layer.get_buffer("scale")
    wanted = state[f"{name}.weight"]
    assert 0 < (near - wanted).norm() / wanted.norm() < 0.03
