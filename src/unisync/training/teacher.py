"""What a teacher hears: hidden layers of a Whisper-like encoder, read from an ONNX file. Training alone needs it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from unisync.audio.mel import RATE
from unisync.errors import OptionError
from unisync.types import Floats

if TYPE_CHECKING:
    import onnx

BANDS = 80
STEP = 320
"""Samples from one row of features to the next: 50 rows a second."""


class Teacher:
    """An encoder with Whisper's layout: mel bands, two convolutions, then layers that normalise before they attend.

    rows: feature rows of one window.  Whatever is heard is brought to unit variance first, window by window.
    """

    def __init__(self, path: Path, layers: tuple[int, ...]) -> None:
        """Read the file up to the last of the layers (0, 1, …). Raises OptionError if it is no such encoder."""
        try:
            import onnx
            import onnxruntime
            from google.protobuf.message import DecodeError
            from transformers import WhisperFeatureExtractor
        except ImportError as error:
            raise OptionError(f"a teacher needs {error.name}: pip install 'unisync[train]'") from error
        try:
            model = onnx.load(path)
        except OSError as error:
            raise OptionError(f"{path}: the teacher cannot be read ({error.strerror or error})") from error
        except DecodeError as error:
            raise OptionError(f"{path}: the teacher is no ONNX file ({error}); name another") from error
        self._input, num = _input_of(model.graph, path)
        self.rows = num // 2
        self._taps = _taps(model.graph, layers, path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in self._taps)
        part = onnx.utils.Extractor(model).extract_model([self._input], self._taps)  # what lies above is not run
        self._session = onnxruntime.InferenceSession(part.SerializeToString(), options)
        self._mel = WhisperFeatureExtractor(feature_size=BANDS)

    @property
    def samples(self) -> int:
        """Samples (at 16 kHz) of one window."""
        return self.rows * STEP

    def bands(self, samples: Floats) -> Floats:
        """Return Whisper's log-mel (80, 2 rows) of one window of samples."""
        made = self._mel(samples, sampling_rate=RATE, do_normalize=True, padding="do_not_pad", return_tensors="np")
        return np.asarray(made["input_features"][0], np.float32)

    def window(self, samples: Floats) -> Floats:
        """Return the features (rows, C) of one window of samples, the layers side by side."""
        found = self._session.run(self._taps, {self._input: self.bands(samples)[None]})
        return np.concatenate([layer[0] for layer in found], axis=1).astype(np.float32)

    def hear(self, samples: NDArray[np.int16]) -> Floats:
        """Return features (len(samples) // 320 + 1, C) of any speech: overlapping windows, without their edges."""
        num, edge = len(samples) // STEP + 1, self.rows // 8
        parts, start = [], 0
        while True:
            part = samples[start * STEP : (start + self.rows) * STEP].astype(np.float32) / np.float32(32768)
            features = self.window(np.pad(part, (0, self.samples - len(part))))
            last = start + self.rows >= num
            parts.append(features[edge if start else 0 : self.rows if last else self.rows - edge])
            if last:
                return np.concatenate(parts)[:num]
            start += self.rows - 2 * edge


def _input_of(graph: onnx.GraphProto, path: Path) -> tuple[str, int]:
    """Return the name and the number of mel rows of the graph's input."""
    shape = [[size.dim_value for size in value.type.tensor_type.shape.dim] for value in graph.input]
    if len(shape) != 1 or len(shape[0]) != 3 or shape[0][1] != BANDS or shape[0][2] < 16 or shape[0][2] % 2:
        raise OptionError(
            f"{path}: the teacher takes {shape}, not mel (1, {BANDS}, an even number of rows); name another"
        )
    return graph.input[0].name, shape[0][2]


def _taps(graph: onnx.GraphProto, layers: tuple[int, ...], path: Path) -> list[str]:
    """Return the names of the layers' outputs: each is what the next layer's first normalisation takes."""
    norms = [node.input[0] for node in graph.node if node.op_type == "LayerNormalization"]
    num = (len(norms) - 1) // 2  # two in each layer, and one after the last
    if not layers or min(layers) < 0 or max(layers) >= num:
        raise OptionError(f"{path}: the teacher has layers 0 to {num - 1}, not {layers}; choose others or another file")
    return [norms[2 * layer + 2] for layer in layers]
