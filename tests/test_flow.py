"""The mathematics of rectified flow against closed forms and a slow oracle."""

from __future__ import annotations

import math

import pytest
import torch

from unisync import flow

SHAPE = (1, 4, 3, 6, 6)


def randn(seed: int = 0) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_path_ends_at_data_and_noise() -> None:
    z, noise = randn(), randn(1)
    assert torch.equal(flow.noised(z, noise, 0.0), z)
    assert torch.equal(flow.noised(z, noise, 1.0), noise)


def test_velocity_is_the_slope_of_the_path() -> None:
    z, noise = randn(), randn(1)
    slope = (flow.noised(z, noise, 0.51) - flow.noised(z, noise, 0.49)) / 0.02
    assert torch.allclose(slope, flow.target_velocity(z, noise), atol=1e-12)


def test_data_prediction_gives_the_same_velocity() -> None:
    z, noise = randn(), randn(1)
    got = flow.data_to_velocity(flow.noised(z, noise, 0.7), z, 0.7)
    assert torch.allclose(got, flow.target_velocity(z, noise), atol=1e-12)


def test_loss_weight_peaks_in_the_middle_with_mean_one() -> None:
    sigma = torch.linspace(0, 1, 100001, dtype=torch.float64)
    weight = flow.loss_weight(sigma)
    assert weight.argmax() == 50000
    assert abs(float(weight.mean()) - 1) < 1e-4
    assert abs(float(weight[0])) < 1e-12 and abs(float(weight[-1])) < 1e-12
    ratio = (math.exp(-2 * 0.25**2) - math.exp(-0.5)) / (1 - math.exp(-0.5))
    assert abs(float(weight[25000] / weight[50000]) - ratio) < 1e-12


@pytest.mark.parametrize("shift", [1.0, 3.0, 5.0])
@pytest.mark.parametrize("start", [1.0, 0.9, 0.5])
def test_schedule_falls_from_start_to_zero(shift: float, start: float) -> None:
    levels = flow.schedule(8, shift, start)
    assert len(levels) == 9 and levels[0] == start and levels[-1] == 0
    assert all(a > b for a, b in zip(levels, levels[1:], strict=False))


def test_schedule_with_shift_five_matches_the_closed_form() -> None:
    levels = flow.schedule(40, 5.0)
    for i, level in enumerate(levels):
        u = 1 - i / 40
        assert math.isclose(level, 5 * u / (1 + 4 * u), abs_tol=1e-9)
    assert math.isclose(levels[32], 0.5556, abs_tol=1e-3)  # where tau_inj = .8 by index stops


@pytest.mark.parametrize(("steps", "start"), [(0, 1.0), (4, 0.0), (4, 1.1)])
def test_schedule_refuses_nonsense(steps: int, start: float) -> None:
    with pytest.raises(ValueError, match="steps"):
        flow.schedule(steps, 1.0, start)


def test_euler_follows_a_straight_flow_exactly_in_any_number_of_steps() -> None:
    z, noise = randn(), randn(1)
    for steps in (1, 3, 10):
        out = flow.sample(lambda _z, _s: noise - z, noise, flow.schedule(steps, 3.0), [], torch.Generator())
        assert torch.allclose(out, z, atol=1e-9)


def test_euler_converges_to_the_exact_flow_of_a_gaussian() -> None:
    # Data N(m, s²): E[noise - z | z_sigma] is linear, and the flow maps noise e to m + s e.
    mean, spread = 0.7, 0.3

    def velocity(z: torch.Tensor, sigma: float) -> torch.Tensor:
        variance = (1 - sigma) ** 2 * spread**2 + sigma**2
        gap = z - (1 - sigma) * mean
        return sigma / variance * gap - (mean + (1 - sigma) * spread**2 / variance * gap)

    noise = randn(3)
    exact = mean + spread * noise
    errors = [
        float((flow.sample(velocity, noise, flow.schedule(n), [], torch.Generator()) - exact).abs().max())
        for n in (50, 100, 200)
    ]
    assert errors[2] < 0.01
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.2)  # first order
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.2)


def test_guidance_limits() -> None:
    a, b = randn(), randn(1)
    assert torch.equal(flow.guided(a, b, 0), a)
    assert torch.allclose(flow.guided(a, b, 1), b)
    assert torch.allclose(flow.guided(a, b, 3), a + 3 * (b - a))


def test_progressive_start_limits() -> None:
    source, noise = randn(), randn(1)
    assert torch.equal(flow.progressive_start(source, noise, 1.0), noise)
    assert torch.equal(flow.progressive_start(source, noise, 0.0), source)


def test_a_progressive_start_at_one_is_plain_sampling_and_at_zero_the_source() -> None:
    source, noise, generator = randn(), randn(1), torch.Generator()

    def velocity(z: torch.Tensor, sigma: float) -> torch.Tensor:
        return torch.tanh(z) * (1 + sigma)

    def made(tau: float, counting: flow.Counting) -> torch.Tensor:
        levels = flow.schedule(6, 3.0, tau, counting)
        return flow.sample(velocity, flow.progressive_start(source, noise, tau), levels, [], generator)

    plain = flow.sample(velocity, noise, flow.schedule(6, 3.0), [], generator)
    for counting in ("below", "all"):
        assert torch.equal(made(1.0, counting), plain)
        assert torch.allclose(made(1e-6, counting), source, atol=1e-4)


def bent(z: torch.Tensor, sigma: float) -> torch.Tensor:
    return torch.tanh(z) * (1 + sigma) + 0.3 * z.flip(-1)


@pytest.mark.parametrize(("steps", "shift"), [(2, 1.0), (5, 1.0), (10, 5.0), (30, 3.0)])
@pytest.mark.parametrize("solver", ["unipc", "euler"])
def test_solvers_agree_with_diffusers(solver: flow.Solver, steps: int, shift: float) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler

    theirs = (
        UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift)
        if solver == "unipc"
        else FlowMatchEulerDiscreteScheduler(shift=shift)
    )
    theirs.set_timesteps(steps)
    levels = [float(level) for level in theirs.sigmas]
    z = noise = randn()
    for moment, sigma in zip(theirs.timesteps, levels, strict=False):
        z = theirs.step(bent(z, sigma), moment, z, return_dict=False)[0]
    ours = flow.sample(bent, noise, levels, [], torch.Generator(), solver)
    assert (ours - z).abs().max() < 1e-5


def test_unipc_needs_fewer_steps_than_euler() -> None:
    exact = flow.sample(bent, randn(), flow.schedule(3000), [], torch.Generator())
    errors = {
        (solver, steps): float(
            (flow.sample(bent, randn(), flow.schedule(steps), [], torch.Generator(), solver) - exact).abs().max()
        )
        for solver in ("euler", "unipc")
        for steps in (10, 20)
    }
    assert errors["unipc", 10] < 0.3 * errors["euler", 20]
    assert errors["unipc", 20] < 0.4 * errors["unipc", 10]


def test_unipc_corrects_nothing_that_is_held() -> None:
    source, mask = randn(1), torch.ones(1, 1, 3, 6, 6, dtype=torch.float64)
    mask[..., :3, :] = 0
    seen: list[torch.Tensor] = []

    def velocity(z: torch.Tensor, sigma: float) -> torch.Tensor:
        seen.append(z)
        return bent(z, sigma)

    noise = randn(2)
    injection = flow.Injection(source, mask, 1.0, noise=noise)
    levels = flow.schedule(5)
    out = flow.sample(velocity, noise, levels, [injection], torch.Generator(), "unipc")
    for z, sigma in zip([*seen, out], levels, strict=True):
        assert torch.allclose(z[..., :3, :], flow.noised(source, noise, sigma)[..., :3, :])


@pytest.mark.parametrize("shift", [1.0, 5.0])
def test_steps_are_counted_below_the_start_or_over_all_levels(shift: float) -> None:
    whole = flow.schedule(50, shift)
    assert len(flow.schedule(50, shift, 0.92)) == 51
    cut = flow.schedule(50, shift, 0.92, "all")
    assert cut[0] == 0.92 and cut[1:] == [level for level in whole if level < 0.92]
    assert flow.schedule(50, 1.0, 0.92, "all")[1] == pytest.approx(0.9)


BASE, PEAK = 1.0, 4.5


def test_spatial_guidance_is_eq_7_over_its_peak() -> None:
    mouth, spread = torch.tensor([[0.5, 0.7], [0.25, 0.5]]), torch.tensor([0.1, 0.2])
    bell = flow.spatial_guidance(mouth, spread, (20, 30), BASE, PEAK)
    assert bell.shape == (1, 1, 2, 20, 30)
    for f, row, column in ((0, 13, 15), (0, 2, 3), (1, 9, 7), (1, 19, 0)):
        x, y = (column + 0.5) / 30, (row + 0.5) / 20
        away = (x - float(mouth[f, 0])) ** 2 + (y - float(mouth[f, 1])) ** 2
        printed = BASE + (PEAK - BASE) * math.exp(-away / (2 * float(spread[f]) ** 2))
        assert float(bell[0, 0, f, row, column]) == pytest.approx(printed / PEAK, rel=1e-5)
    assert float(bell.max()) <= 1 and float(bell.min()) >= BASE / PEAK
    assert float(bell[0, 0, 0, :2].max()) == pytest.approx(BASE / PEAK, abs=1e-4)


def test_temporal_guidance_is_eq_8() -> None:
    assert flow.temporal_guidance(1.0, PEAK, 1.5) == PEAK
    assert flow.temporal_guidance(0.25, PEAK, 1.5) == pytest.approx(PEAK / 8)
    assert flow.temporal_guidance(0.0, PEAK, 1.5) == 0


def test_dynamic_guidance_with_one_weight_and_no_fall_is_static() -> None:
    a, b = randn(), randn(1)
    bell = flow.spatial_guidance(torch.full((3, 2), 0.5), torch.full((3,), 0.1), (6, 6), PEAK, PEAK)
    for sigma in (1.0, 0.3, 0.01):
        assert torch.allclose(flow.dynamic_guided(a, b, bell, sigma, PEAK, 0.0), flow.guided(a, b, PEAK))
    falling = flow.dynamic_guided(a, b, bell, 0.5, PEAK, 1.0)
    assert torch.allclose(falling, flow.guided(a, b, PEAK / 2))


def test_what_is_told_by_pixel_frame_is_averaged_over_a_latent_frames() -> None:
    values = torch.arange(9.0)[:, None] * torch.tensor([1.0, 10.0])
    assert torch.equal(flow.per_latent_frame(values, 1), values)
    assert torch.equal(flow.per_latent_frame(values, 4), torch.tensor([[0.0, 0.0], [2.5, 25.0], [6.5, 65.0]]))


def test_several_injections_hold_what_each_knows() -> None:
    one, two = randn(1), randn(2)
    top, first = torch.ones(1, 1, 3, 6, 6), torch.ones(1, 1, 3, 1, 1)
    top[..., :3, :], first[:, :, 0] = 0, 0
    injections = [flow.Injection(one, top, 0.5), flow.Injection(two, first, 1.0)]
    out = flow.sample(lambda z, _s: z, randn(), flow.schedule(4), injections, torch.Generator().manual_seed(0))
    assert torch.equal(out[:, :, 0], two[:, :, 0])
    assert not torch.equal(out[:, :, 1, :3], one[:, :, 1, :3])  # let go after half of the steps


def test_tali_by_index_counts_steps() -> None:
    # tau = .8 of 40 steps: t = 40 … 9 inject, the last 8 run free.
    active = [flow.tali_active(i, 40, 0.0, 0.8, "index") for i in range(40)]
    assert active == [True] * 32 + [False] * 8
    assert not any(flow.tali_active(i, 10, 0.0, 0.0, "index") for i in range(10))
    assert all(flow.tali_active(i, 10, 0.0, 1.0, "index") for i in range(10))


def test_tali_by_sigma_reads_the_level() -> None:
    assert flow.tali_active(0, 10, 0.21, 0.8, "sigma")
    assert not flow.tali_active(0, 10, 0.2, 0.8, "sigma")


def test_injection_keeps_the_mouth_and_noises_the_rest_to_the_new_level() -> None:
    z, source, noise = randn(), randn(1), randn(2)
    mask = torch.zeros(1, 1, 3, 6, 6, dtype=torch.float64)
    mask[..., 2:5, 1:5] = 1
    out = flow.inject(z, source, noise, mask, 0.4)
    inside = mask.expand(SHAPE) > 0
    assert torch.equal(out[inside], z[inside])
    assert torch.equal(out[~inside], flow.noised(source, noise, 0.4)[~inside])


def test_sampling_with_full_injection_returns_the_source_outside_the_mouth() -> None:
    source = randn(1)
    mask = torch.zeros(1, 1, 3, 6, 6, dtype=torch.float64)
    mask[..., 3:, :] = 1
    injection = flow.Injection(source, mask, ratio=1.0)
    generator = torch.Generator().manual_seed(0)
    out = flow.sample(lambda z, _s: torch.ones_like(z), randn(), flow.schedule(6), [injection], generator)
    outside = mask.expand(SHAPE) == 0
    assert torch.equal(out[outside], source[outside])
    assert not torch.equal(out[~outside], source[~outside])


def test_latent_mask_is_the_union_over_a_latent_frames_pixels() -> None:
    mask = torch.zeros(1, 9, 32, 32)
    mask[0, 3, 8, 8] = 1  # frames 1-4 make latent frame 1
    mask[0, 8, 31, 31] = 1
    latent = flow.latent_mask(mask, 4, 8, dilate=0)
    assert latent.shape == (1, 1, 3, 4, 4)
    assert latent.sum() == 2 and latent[0, 0, 1, 1, 1] == 1 and latent[0, 0, 2, 3, 3] == 1
    wide = flow.latent_mask(mask, 4, 8, dilate=1)
    assert wide[0, 0, 1].sum() == 9 and wide[0, 0, 0].sum() == 0


def test_latent_mask_of_single_frames() -> None:
    mask = torch.zeros(2, 5, 16, 16)
    mask[1, 4, 0, 0] = 1
    latent = flow.latent_mask(mask, 1, 8, dilate=0)
    assert latent.shape == (2, 1, 5, 2, 2) and latent.sum() == 1 and latent[1, 0, 4, 0, 0] == 1
