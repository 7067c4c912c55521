"""The loop: exact on resuming, fair in accumulating, true in its schedule; and LoRA, which is peft's."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_recipes import SMALL as NETWORKS
from torch import Tensor, nn

from unisync.errors import OptionError, WeightsError
from unisync.nets.lora import merge_lora, parse_lora
from unisync.nets.transformer import Condition, Transformer
from unisync.nets.weights import save_weights
from unisync.training.loop import Batch, Job, Look, Loop, LoopRecipe, Terms, learning_rate
from unisync.training.lora import LoraRecipe, add_lora, save_lora

RECIPE = LoopRecipe(
    steps=9, batch=4, precision="fp32", schedule="cosine", warmup=3, learning_rate=0.02, save_every=2, look_every=3,
    log_every=4,
)  # fmt: skip
SPEC = {"kind": "test", "sizes": [3, 4]}


class Killed(Exception):  # noqa: N818 - what happens to it
    """Stands for the end of the process."""


def job(stop: int | None = None, looks: list[float] | None = None) -> Job:
    """Return a small regression with dropout, whose every batch is drawn from both generators."""
    torch.manual_seed(5)
    network = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.3), nn.Linear(8, 1))
    rnd = random.Random()
    drawn = 0

    def draw() -> Batch:
        nonlocal drawn
        drawn += 1
        if stop is not None and drawn > stop:
            raise Killed
        x = torch.randn(4, 3) + rnd.random()
        return {"x": x, "y": x.sum(1, keepdim=True)}

    def loss(network: nn.Module, batch: Batch) -> Terms:
        error = network(batch["x"]) - batch["y"]
        return {"square": error.square().mean(), "size": 0.1 * error.abs().mean()}

    def look(network: nn.Module) -> Look:
        assert not network.training
        torch.randn(7), rnd.random()  # must not disturb what training draws
        value = (looks or [0.0]).pop(0) if looks else 0.0
        return Look({"figure": value}, torch.zeros(4, 6, 3, dtype=torch.uint8))

    return Job(network, draw, loss, SPEC, rnd, look)


def state_of(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(autouse=True)
def quiet(capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    yield
    capsys.readouterr()


@pytest.mark.parametrize("stop", [1, 4, 5, 7])
def test_a_killed_run_ends_with_the_same_weights(stop: int, tmp_path: Path) -> None:
    whole = Loop(job(), RECIPE, tmp_path / "whole")
    average = state_of(whole.run())
    with pytest.raises(Killed):
        Loop(job(stop), RECIPE, tmp_path / "killed").run()
    again = Loop(job(), RECIPE, tmp_path / "killed")
    assert again.position.step == stop // 2 * 2
    assert equal(average, state_of(again.run()))
    assert equal(state_of(whole.objective), state_of(again.objective))
    names = [path.name for path in sorted((tmp_path / "killed").glob("step-*"))]
    assert names == ["step-00000009"]  # one checkpoint stays


def test_a_half_written_checkpoint_is_passed_over(tmp_path: Path) -> None:
    Loop(job(), replace(RECIPE, steps=2), tmp_path).run()
    (tmp_path / "step-00000004.part").mkdir()
    assert Loop(job(), RECIPE, tmp_path).position.step == 2
    (tmp_path / "step-00000002" / "weights.safetensors").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="damaged"):
        Loop(job(), RECIPE, tmp_path)


def test_a_checkpoint_says_what_it_is_and_takes_nothing_else(tmp_path: Path) -> None:
    Loop(job(), RECIPE, tmp_path).run()
    data = (tmp_path / "step-00000009" / "weights.safetensors").read_bytes()
    head = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert json.loads(head["__metadata__"]["unisync"]) == SPEC | {"step": 9}
    with pytest.raises(WeightsError, match="another sizes"):
        Loop(replace(job(), spec=SPEC | {"sizes": [3, 5]}), RECIPE, tmp_path)


def test_the_best_look_is_returned_if_wanted(tmp_path: Path) -> None:
    best = replace(job(looks=[1.0, 3.0, 2.0]), keep_best="figure")
    found = state_of(Loop(best, RECIPE, tmp_path / "a").run())
    at_six = state_of(Loop(job(), replace(RECIPE, steps=1000, schedule="constant"), tmp_path / "b").average)
    assert not equal(found, at_six)
    half = Loop(replace(job(9, looks=[1.0, 3.0, 2.0]), keep_best="figure"), replace(RECIPE, steps=9), tmp_path / "c")
    assert equal(found, state_of(half.run()))
    again = Loop(replace(job(), keep_best="figure"), RECIPE, tmp_path / "c")
    assert again.position.best == 3.0 and equal(found, state_of(again.run()))


def test_accumulated_batches_step_as_one_large_batch(tmp_path: Path) -> None:
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))

    def trained(parts: int) -> dict[str, Tensor]:
        torch.manual_seed(5)
        pieces = [part for part in x.chunk(parts) for _ in range(1)] * 3
        made = Job(
            nn.Linear(3, 1), lambda: {"x": pieces.pop(0)}, lambda net, b: {"l": net(b["x"]).square().mean()}, {},
            random.Random(),
        )  # fmt: skip
        folder = tmp_path / str(parts)
        loop = Loop(made, replace(RECIPE, steps=3, accumulate=parts), folder)
        loop.run()
        return state_of(loop.objective)

    one, four = trained(1), trained(4)
    assert all(torch.allclose(one[name], four[name], atol=1e-6) for name in one)


def test_the_schedule_rises_and_falls() -> None:
    recipe = LoopRecipe(steps=100, learning_rate=1.0, warmup=10, lowest_rate=0.1)
    assert learning_rate(recipe, 0, 0) == pytest.approx(0.1) and learning_rate(recipe, 4, 0) == pytest.approx(0.5)
    assert learning_rate(recipe, 50, 0.5) == pytest.approx(0.5) and learning_rate(recipe, 99, 0.99) == pytest.approx(
        0.1
    )
    cosine = replace(recipe, schedule="cosine")
    assert learning_rate(cosine, 50, 0.5) == pytest.approx(0.5) and learning_rate(cosine, 25, 0.25) > 0.8
    assert learning_rate(replace(recipe, schedule="constant"), 50, 0.9) == 1.0


def test_a_run_by_minutes_ends(tmp_path: Path) -> None:
    loop = Loop(job(), replace(RECIPE, steps=0, minutes=0.005), tmp_path)
    loop.run()
    assert loop.position.step > 3 and 0.3 <= loop.position.seconds < 3
    again = Loop(job(0), replace(RECIPE, steps=0, minutes=0.005), tmp_path)
    again.run()  # has nothing left to do
    assert again.position.step == loop.position.step
    with pytest.raises(OptionError, match="needs an end"):
        LoopRecipe()


def test_what_is_frozen_stays_and_critics_learn(tmp_path: Path) -> None:
    made = job()
    made.network[0].requires_grad_(False)  # type: ignore[index]
    critic = nn.Linear(1, 1)
    before, first = state_of(critic), state_of(made.network)

    def loss(network: nn.Module, batch: Batch) -> Terms:
        return {"l": critic(network(batch["x"])).square().mean()}

    loop = Loop(replace(made, loss=loss, critics={"critic": critic}), RECIPE, tmp_path)
    after = state_of(loop.run())
    assert torch.equal(after["0.weight"], first["0.weight"]) and not torch.equal(after["2.weight"], first["2.weight"])
    assert not equal(before, state_of(critic))
    again, made = nn.Linear(1, 1), job()
    made.network[0].requires_grad_(False)  # type: ignore[index]
    Loop(replace(made, loss=loss, critics={"critic": again}), RECIPE, tmp_path)
    assert equal(state_of(critic), state_of(again))


def forward(network: nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    z, source, pose = (torch.randn(2, 4, 3, 8, 8, generator=generator) for _ in range(3))
    seconds = torch.arange(3)[None].expand(2, -1) / 25
    audio = torch.randn(2, 3, 9, 16, generator=generator)
    lips = torch.randn(2, 3, 6, generator=generator)
    with torch.no_grad():
        out: Tensor = network(z, torch.tensor([0.3, 0.8]), Condition(source, seconds, pose, audio, lips))
    return out


@pytest.fixture
def lora(tmp_path: Path) -> tuple[Transformer, Transformer, Path]:
    """The base, the same with peft's changes over it, and their file."""
    torch.manual_seed(0)
    base = Transformer(NETWORKS.transformer)
    for parameter in base.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, 0, 0.1)
    changed = copy.deepcopy(base)
    recipe = LoraRecipe(rank=4, alpha=6.0)
    add_lora(changed, recipe)
    for name, parameter in changed.named_parameters():
        assert parameter.requires_grad == ("lora_" in name)
        if "lora_B" in name:
            nn.init.normal_(parameter, 0, 0.2)
    path = tmp_path / "lora.safetensors"
    save_lora(path, changed, "transformer", recipe)
    return base, changed.eval(), path


def test_a_merged_lora_is_pefts_own_forward(lora: tuple[Transformer, Transformer, Path]) -> None:
    base, changed, path = lora
    merged = copy.deepcopy(base)
    merge_lora({"transformer": merged}, path, 1.0)
    assert not torch.allclose(forward(base), forward(changed), atol=1e-2)
    assert torch.allclose(forward(merged), forward(changed), atol=1e-5)
    merge_lora({"transformer": merged}, path, -1.0)
    assert torch.allclose(forward(merged), forward(base), atol=1e-5)


def test_scale_0_changes_no_bit(lora: tuple[Transformer, Transformer, Path]) -> None:
    base, _, path = lora
    same = copy.deepcopy(base)
    merge_lora({"transformer": same}, path, 0.0)
    assert equal(state_of(base), state_of(same)) and torch.equal(forward(base), forward(same))


def test_the_file_is_pefts(lora: tuple[Transformer, Transformer, Path]) -> None:
    from peft import LoraConfig, get_peft_model, set_peft_model_state_dict

    base, changed, path = lora
    config = LoraConfig(r=4, lora_alpha=6, target_modules=["q", "k", "v", "o", "ffn.0", "ffn.2"])
    theirs = get_peft_model(copy.deepcopy(base), config)  # type: ignore[arg-type]
    assert not set_peft_model_state_dict(theirs, load_file(path)).unexpected_keys
    assert torch.allclose(forward(theirs), forward(changed), atol=1e-6)


def test_what_is_no_lora_for_these_weights_is_refused(
    lora: tuple[Transformer, Transformer, Path], tmp_path: Path
) -> None:
    _, _, path = lora
    with pytest.raises(WeightsError, match="is no LoRA file for vae"):
        merge_lora({"vae": nn.Linear(1, 1)}, path, 1.0)
    wider = Transformer(replace(NETWORKS.transformer, width=48))
    with pytest.raises(WeightsError, match="does not fit"):
        merge_lora({"transformer": wider}, path, 1.0)
    other = tmp_path / "other.safetensors"
    save_weights(other, {"x": nn.Linear(1, 1)}, {"kind": "mini"})
    with pytest.raises(WeightsError, match="no LoRA file"):
        merge_lora({"transformer": wider}, other, 1.0)
    with pytest.raises(OptionError, match=r"'head\.nothing'"):
        add_lora(wider, LoraRecipe(targets=("head.nothing",)))


@pytest.mark.parametrize(
    ("text", "file", "scale"), [("a.st", "a.st", 1.0), ("a.st:0.5", "a.st", 0.5), ("b:c.st", "b:c.st", 1.0)]
)
def test_a_lora_is_named_with_its_scale(text: str, file: str, scale: float) -> None:
    assert parse_lora(text) == (Path(file), scale)
