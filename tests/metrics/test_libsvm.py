"""A model of two vectors by hand, and what damaged files are told."""

from __future__ import annotations

from math import exp
from pathlib import Path

import numpy as np
import pytest

from unisync.errors import WeightsError
from unisync.metrics.libsvm import read_regression, read_scaling

MODEL = """svm_type epsilon_svr
kernel_type rbf
gamma 0.5
nr_class 2
total_sv 2
rho -3
probA 6.3
SV
2 1:1 2:-1
-0.5 2:2
"""
RANGES = "x\n-1 1\n1 0 10\n2 -4 4\n"


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_the_regression_is_the_formula(tmp_path: Path) -> None:
    model = read_regression(written(tmp_path / "allmodel", MODEL), 2)
    expected = 2 * exp(-0.5 * (0.5**2 + 1.25**2)) - 0.5 * exp(-0.5 * (0.5**2 + 1.75**2)) + 3
    assert model(np.array([0.5, 0.25])) == pytest.approx(expected, rel=1e-12)


def test_features_are_scaled_as_svm_scale_does(tmp_path: Path) -> None:
    scaling = read_scaling(written(tmp_path / "allrange", RANGES), 2)
    np.testing.assert_allclose(scaling(np.array([0.0, 0.0])), [-1, 0])
    np.testing.assert_allclose(scaling(np.array([15.0, -4.0])), [2, -1])


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("epsilon_svr", "c_svc", "c_svc"),
        ("kernel_type rbf", "kernel_type linear", "linear"),
        ("total_sv 2", "total_sv 3", "2 support vectors of 3"),
        ("2:2", "3:2", "not of 2 features"),
        ("2:2", "0:2", "numbered 0"),
        ("gamma 0.5\n", "", "gamma"),
        ("SV\n", "", "damaged"),
        ("1:1", "1:one", "one"),
    ],
)
def test_a_model_that_is_another_or_damaged_is_refused(tmp_path: Path, old: str, new: str, told: str) -> None:
    with pytest.raises(WeightsError, match=told) as caught:
        read_regression(written(tmp_path / "allmodel", MODEL.replace(old, new)), 2)
    assert str(tmp_path / "allmodel") in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "y\n-1 1\n1 0 1\n2 0 1\n", "x\n-1 1\n1 0 10\n", "x\n-1 1\n1 0 1\n2 4 4\n", "x\n-1 1\n1 0 1\n3 0 1\n"]
)
def test_ranges_that_are_damaged_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(WeightsError, match="ranges of 2 features"):
        read_scaling(written(tmp_path / "allrange", text), 2)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "allrange").write_bytes(b"\xff\xfe")
    for read in (read_regression, read_scaling):
        with pytest.raises(WeightsError, match="allrange"):
            read(tmp_path / "allrange", 2)
        with pytest.raises(WeightsError, match="nothing"):
            read(tmp_path / "nothing", 2)
