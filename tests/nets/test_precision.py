"""Networks run in bfloat16 only where the device computes in it."""

from __future__ import annotations

import pytest
import torch

from unisync.nets import precision


@pytest.fixture(autouse=True)
def forgotten() -> None:
    precision.computes_bf16.cache_clear()


@pytest.mark.parametrize("able", [False, True])
def test_a_processor_that_only_imitates_bfloat16_computes_in_float32(
    monkeypatch: pytest.MonkeyPatch, able: bool
) -> None:
    monkeypatch.setattr(precision.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: able)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    with precision.autocast("cpu"):
        kept = torch.ones(2, 2) @ torch.ones(2, 2)
    assert kept.dtype == (torch.bfloat16 if able else torch.float32)


@pytest.mark.parametrize(("name", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_a_precision_that_is_asked_for_is_used(name: precision.Precision, dtype: torch.dtype) -> None:
    with precision.autocast(torch.device("cpu"), name):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_an_old_gpu_is_not_asked_to_imitate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert not precision.computes_bf16("cuda")
