"""Published layouts: our networks take exactly their tensors, and compute what the papers' networks compute."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from scipy.ndimage import maximum_filter
from torch import Tensor, nn

from layouts import SYNCNET, arcface, i3d, inception, random_state
from unisync.errors import WeightsError
from unisync.nets.arcface import ArcFace
from unisync.nets.i3d import I3d, pooled, same
from unisync.nets.inception import Inception, Mixed, average
from unisync.nets.published import I3D_SCRIPT, NETWORKS, ScriptedI3d, check_layout, load_published, read_state
from unisync.nets.syncnet import SyncNet

LAYOUTS = {
    "syncnet_v2.model": SYNCNET,
    "pt_inception-2015-12-05-6726825d.pth": inception(),
    "rgb_imagenet.pt": i3d(),
    "w600k_r50.pth": arcface(),
}


def filled(name: str) -> nn.Module:
    """Return a network with the random weights of its published layout."""
    network = NETWORKS[name]()
    lacking, unknown = network.load_state_dict(random_state(LAYOUTS[name]), strict=False)
    assert not unknown and all(key.endswith("num_batches_tracked") for key in lacking)
    return network.eval()


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_layout_is_the_published_one(name: str) -> None:
    with torch.device("meta"):
        ours = NETWORKS[name]().state_dict()
    published = random_state(LAYOUTS[name], counters=True)
    assert {key: value.shape for key, value in ours.items()} == {key: value.shape for key, value in published.items()}


@pytest.fixture(scope="module")
def syncnet() -> SyncNet:
    network = filled("syncnet_v2.model")
    assert isinstance(network, SyncNet)
    return network


def test_syncnet_sees_a_film_at_once_as_it_sees_its_windows(syncnet: SyncNet) -> None:
    film = torch.rand(6, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    seen = syncnet.see(film)
    one_by_one = torch.cat([syncnet.see(film[i : i + 5]) for i in range(2)])
    assert seen.shape == (2, 1024) and seen.std() > 0.01
    torch.testing.assert_close(seen, one_by_one, rtol=1e-4, atol=1e-4)


def test_syncnet_hears_windows_apart(syncnet: SyncNet) -> None:
    windows = torch.randn(3, 13, 20, generator=torch.Generator().manual_seed(2))
    heard = syncnet.hear(windows)
    assert heard.shape == (3, 1024) and heard.std() > 0.01
    torch.testing.assert_close(heard[1:2], syncnet.hear(windows[1:2]), rtol=1e-4, atol=1e-4)


def test_inception_takes_pictures_of_any_size_and_depends_on_the_whole_of_them() -> None:
    network = filled("pt_inception-2015-12-05-6726825d.pth")
    assert isinstance(network, Inception)
    picture = torch.rand(1, 3, 40, 60, generator=torch.Generator().manual_seed(3))
    other = picture.clone()
    other[..., :8, :8] = 0
    features = network(torch.cat([picture, other]))
    assert features.shape == (2, 2048) and (features >= 0).all() and features.std() > 0.01
    assert not torch.allclose(features[0], features[1])


def test_inceptions_features_are_those_of_a_published_program() -> None:
    """torch-fidelity 0.3.0 gave these for the same weights and the same picture of 299 x 299, to the bit."""
    x = torch.arange(299.0)
    levels = (128 + 100 * torch.sin(x[:, None] / 7 + x / 11 + torch.arange(3.0)[:, None, None])).round()
    features = filled("pt_inception-2015-12-05-6726825d.pth")(levels[None] / 256)[0]
    expected = torch.tensor([0.152363, 0.266326, 0.102101, 0.073519, 0.001439, 0.004615])
    torch.testing.assert_close(features[::400], expected, rtol=1e-3, atol=2e-5)
    assert features.mean().item() == pytest.approx(0.2317765, rel=1e-4)


def test_averages_of_inception_leave_padding_out() -> None:
    ones = torch.ones(1, 1, 4, 4)
    assert torch.equal(average(ones), ones)


def test_branches_are_laid_together_in_the_published_order() -> None:
    """A block whose every convolution passes its first channel on shows which branch stands where."""
    block = Mixed(1, (("one", "x", 1, 1), ("two", "x", 1, 1), ("two_a", "two", 2, 1), ("last", "pool", 1, 1)))
    for value, name in enumerate(("one", "two", "two_a", "last"), 1):
        nn.init.constant_(block.get_submodule(name).conv.weight, value)
    made = block.eval()(torch.ones(1, 1, 1, 1)).flatten() * (1 + 1e-3) ** 0.5
    torch.testing.assert_close(made, torch.tensor([1, 6 / (1 + 1e-3) ** 0.5, 6 / (1 + 1e-3) ** 0.5, 4]))


def test_i3d_takes_the_mean_of_its_logits_over_time() -> None:
    network = filled("rgb_imagenet.pt")
    assert isinstance(network, I3d)
    clips = torch.rand(2, 3, 16, 32, 32, generator=torch.Generator().manual_seed(4)) * 2 - 1
    logits = network(clips)
    assert logits.shape == (2, 400) and logits.std() > 0.01
    torch.testing.assert_close(logits[1:], network(clips[1:]), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(logits[0], network(clips[:1].flip(2))[0], rtol=1e-2)  # it sees which way time goes


@pytest.mark.parametrize(
    ("size", "kernel", "stride"), [(16, 7, 2), (15, 7, 2), (8, 3, 1), (7, 3, 2), (7, 2, 2), (6, 1, 1)]
)
def test_padding_is_tensorflows(size: int, kernel: int, stride: int) -> None:
    """TensorFlow: out = ceil(size / stride), padding max((out - 1) stride + kernel - size, 0), the odd one behind."""
    out = -(-size // stride)
    total = max((out - 1) * stride + kernel - size, 0)
    x = torch.arange(1.0, size + 1).reshape(1, 1, size, 1, 1)
    padded = same(x, (kernel, 1, 1), (stride, 1, 1)).flatten()
    expected = np.pad(np.arange(1.0, size + 1), (total // 2, total - total // 2))
    assert padded.tolist() == expected.tolist()
    assert pooled(x, (kernel, 1, 1), (stride, 1, 1)).numel() == out


def test_neighbours_are_pooled_about_themselves() -> None:
    x = torch.rand(1, 1, 5, 6, 7, generator=torch.Generator().manual_seed(5))
    expected = maximum_filter(x[0, 0].numpy(), 3, mode="constant")
    np.testing.assert_array_equal(pooled(x, (3, 3, 3), (1, 1, 1))[0, 0].numpy(), expected)


def test_arcface_embeds_each_face_by_itself() -> None:
    network = filled("w600k_r50.pth")
    assert isinstance(network, ArcFace)
    faces = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(6)) * 2 - 1
    embeddings = network(faces)
    assert embeddings.shape == (2, 512) and embeddings.std() > 0.01
    torch.testing.assert_close(embeddings[:1], network(faces[:1]), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("suffix", [".model", ".safetensors"])
def test_a_file_is_loaded_as_it_lies(suffix: str, tmp_path: Path, syncnet: SyncNet) -> None:
    path = tmp_path / f"syncnet_v2{suffix}"
    state = random_state(SYNCNET, counters=suffix == ".model")
    half = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    if suffix == ".safetensors":
        save_file(half, path)
    else:
        torch.save(half, path, _use_new_zipfile_serialization=False)  # as old as the published file
    network = load_published("syncnet_v2.model", path)
    windows = torch.randn(2, 13, 20, generator=torch.Generator().manual_seed(7))
    assert not network.training and not any(p.requires_grad for p in network.parameters())
    torch.testing.assert_close(network.hear(windows), syncnet.hear(windows), rtol=0.05, atol=0.05)


def test_files_of_something_else_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "syncnet_v2.model"
    for bytes_ in (b"", b"not weights at all", pickle.dumps(print, 2)):
        path.write_bytes(bytes_)
        with pytest.raises(WeightsError, match=r"syncnet_v2\.model: cannot be read as weights .*get it again"):
            read_state(path)
    torch.save({"epoch": 3, "state_dict": {}}, path)
    with pytest.raises(WeightsError, match="tensors by name alone"):
        read_state(path)
    torch.save(torch.zeros(3), path)
    with pytest.raises(WeightsError, match="tensors by name alone"):
        read_state(path)
    whole = tmp_path / "whole.pt"
    torch.save({"weight": torch.zeros(1000)}, whole)
    path.write_bytes(whole.read_bytes()[:2000])
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        read_state(path)
    (tmp_path / "x.safetensors").write_bytes(b"\x10\x00")
    with pytest.raises(WeightsError, match=r"x\.safetensors: cannot be read"):
        read_state(tmp_path / "x.safetensors")


def test_other_networks_weights_are_refused_by_name_and_shape() -> None:
    wanted = {"a.weight": torch.zeros(2), "b.weight": torch.zeros(3), "b.num_batches_tracked": torch.zeros(())}
    path = Path("here.pt")
    check_layout(wanted, {"a.weight": torch.zeros(2), "b.weight": torch.zeros(3)}, path)
    for state, words in (
        ({"a.weight": torch.zeros(2)}, r"here\.pt: the file lacks 'b\.weight';"),
        ({}, r"lacks 'a\.weight' and 1 more;"),
        ({**wanted, "c.bias": torch.zeros(1)}, r"has, unlooked for, 'c\.bias'"),
        ({**wanted, "b.weight": torch.zeros(4)}, r"has in another shape 'b\.weight'"),
    ):
        with pytest.raises(WeightsError, match=words):
            check_layout(wanted, state, path)


class Scripted(nn.Module):
    """What TorchScript makes of a module that is called as the published one is."""

    def forward(self, x: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False) -> Tensor:
        assert rescale and resize and return_features
        return F.adaptive_avg_pool3d(x, [1, 1, 1]).flatten(1).repeat(1, 100)


def test_the_torchscript_file_is_shown_levels_from_0_to_255(tmp_path: Path) -> None:
    path = tmp_path / I3D_SCRIPT
    torch.jit.script(Scripted()).save(str(path))
    network = load_published(I3D_SCRIPT, path)
    assert isinstance(network, ScriptedI3d)
    logits = network(torch.full((1, 3, 16, 8, 8), 1.0))
    assert logits.shape == (1, 300) and logits[0, 0] == 255
    path.write_bytes(b"not a script")
    with pytest.raises(WeightsError, match=r"i3d_torchscript\.pt: cannot be read as TorchScript"):
        load_published(I3D_SCRIPT, path)
