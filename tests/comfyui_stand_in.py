"""As much of ComfyUI as a node meets, written after its own code: how it loads, checks and runs nodes, and its types.

ComfyUI itself is no package that tests could install.
"""

from __future__ import annotations

import importlib.util
import inspect
import io
import sys
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch

from unisync.media import EncodeOptions, drawn, probe, read_frames, write_film
from unisync.types import ArrayPicture, Frame


class InterruptProcessingException(BaseException):
    """What ComfyUI raises inside a node to stop it; no Exception, so that no node swallows it."""


class VideoFromFile:
    """A VIDEO that is a file, or a stretch of one."""

    def __init__(self, file: str | io.BytesIO, *, start_time: float = 0, duration: float = 0) -> None:
        self._file, self._window = file, (start_time, duration)

    def get_stream_source(self) -> str | io.BytesIO:
        if isinstance(self._file, io.BytesIO):
            self._file.seek(0)
        return self._file

    def get_active_trim_window(self) -> tuple[float, float]:
        return self._window

    def save_to(  # ComfyUI's own names
        self,
        path: str,
        format: str = "auto",  # noqa: A002
        codec: str = "auto",
        metadata: Any = None,
    ) -> None:
        assert isinstance(self._file, str)
        film, (start, duration) = probe(self._file), self._window
        kept = [f for f in read_frames(film) if start <= f.seconds < start + (duration or 1e9)]
        frames = (Frame(i, f.seconds - kept[0].seconds, f.picture) for i, f in enumerate(kept))
        write_film(frames, path, drawn("x", film.width, film.height, film.rate, len(kept)), None, EncodeOptions("h264"))


class VideoFromComponents(VideoFromFile):
    """A VIDEO made of frames; its stream is encoded when asked for."""

    def __init__(self, images: torch.Tensor, frame_rate: Fraction, folder: Path) -> None:
        pixels = (images * 255).round().to(torch.uint8).numpy()
        frames = (Frame(i, i / frame_rate, ArrayPicture(p)) for i, p in enumerate(pixels))
        path = folder / "encoded.mp4"
        write_film(frames, path, drawn("x", images.shape[2], images.shape[1], frame_rate, len(images)))
        super().__init__(io.BytesIO(path.read_bytes()))
        path.unlink()


class Comfy:
    """ComfyUI's modules while a test runs, its folder of temporary files, and what it was told."""

    def __init__(self, temp: Path) -> None:
        self.temp = temp
        self.bars: list[list[tuple[int, int]]] = []
        self.interrupt_at = -1
        self.nodes: dict[str, Any] = {}
        self.names: dict[str, str] = {}
        told = self

        class ProgressBar:
            def __init__(self, total: int, node_id: str | None = None) -> None:
                self.updates: list[tuple[int, int]] = []
                told.bars.append(self.updates)

            def update_absolute(self, value: int, total: int | None = None, preview: Any = None) -> None:
                assert total is not None
                self.updates.append((value, total))

        self.modules = {
            "comfy": {},
            "comfy.utils": {"ProgressBar": ProgressBar},
            "comfy.model_management": {"throw_exception_if_processing_interrupted": self._throw},
            "comfy_api": {},
            "comfy_api.latest": {"InputImpl": SimpleNamespace(VideoFromFile=VideoFromFile)},
            "folder_paths": {"get_temp_directory": lambda: str(temp)},
        }
        self._asked = 0

    def _throw(self) -> None:
        self._asked += 1
        if self._asked == self.interrupt_at:
            raise InterruptProcessingException

    def install(self, patch: Any) -> None:
        for name, values in self.modules.items():
            module = ModuleType(name)
            vars(module).update(values)
            patch.setitem(sys.modules, name, module)

    def load(self, folder: Path) -> None:
        """Load a folder as custom_nodes are loaded: under its path's name, dots replaced."""
        name = str(folder).replace(".", "_x_")
        spec = importlib.util.spec_from_file_location(name, folder / "__init__.py")
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        for key, node in module.NODE_CLASS_MAPPINGS.items():
            self.nodes[key] = node
            node.RELATIVE_PYTHON_MODULE = f"custom_nodes.{folder.name}"
        self.names.update(module.NODE_DISPLAY_NAME_MAPPINGS)

    def check(self, prompt: Mapping[str, Any]) -> list[str]:
        """Return what is wrong with a prompt, as ComfyUI says before it runs one."""
        wrong = []
        for node in prompt.values():
            kind = self.nodes[node["class_type"]]
            every, given = kind.INPUT_TYPES(), node["inputs"]
            wrong += [f"required input is missing: {name}" for name in every["required"] if name not in given]
            known = {**every["required"], **every.get("optional", {})}
            for name, value in given.items():
                if isinstance(value, list) and prompt[value[0]]:
                    sent = self.nodes[prompt[value[0]]["class_type"]].RETURN_TYPES[value[1]]
                    if known[name][0] not in (sent, "*"):
                        wrong.append(f"{name}: {sent} does not fit {known[name][0]}")
            if hasattr(kind, "VALIDATE_INPUTS"):
                constants = {name: None if isinstance(value, list) else value for name, value in given.items()}
                takes = inspect.getfullargspec(kind.VALIDATE_INPUTS)
                said = {n: v for n, v in constants.items() if takes.varkw or n in takes.args}
                answer = kind.VALIDATE_INPUTS(**said)
                wrong += [] if answer is True else [str(answer)]
        return wrong

    def run(self, prompt: Mapping[str, Any]) -> dict[str, Any]:
        """Run a prompt, its nodes in the order given, and return what each gave."""
        given: dict[str, Any] = {}
        with torch.inference_mode():
            for key, node in prompt.items():
                kind = self.nodes[node["class_type"]]
                inputs = {n: given[v[0]][v[1]] if isinstance(v, list) else v for n, v in node["inputs"].items()}
                found = getattr(kind(), kind.FUNCTION)(**inputs)
                given[key] = found["result"] if isinstance(found, dict) else found
                assert len(given[key]) == len(kind.RETURN_TYPES)
        return given


def as_prompt(workflow: Mapping[str, Any], nodes: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a saved workflow into what ComfyUI runs: widgets by name, links as [node, output]."""
    links = {link[0]: link for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        every, values = nodes[node["type"]].INPUT_TYPES(), iter(node["widgets_values"])
        inputs: dict[str, Any] = {}
        for name, (kind, _) in {**every["required"], **every.get("optional", {})}.items():
            if isinstance(kind, list) or kind in ("BOOLEAN", "FLOAT", "INT", "STRING"):
                inputs[name] = next(values)
                if name == "seed":
                    assert next(values) == "fixed"
        for entry in node["inputs"]:
            if entry["link"] is not None:
                _, start, output, end, slot, kind = links[entry["link"]]
                assert end == node["id"] and node["inputs"][slot] is entry
                inputs[entry["name"]] = [str(start), output]
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def audio(seconds: float, rate: int = 44100, channels: int = 2) -> dict[str, Any]:
    """Return something that sounds, as ComfyUI's AUDIO."""
    noise = np.random.default_rng(0).normal(0, 0.1, (1, channels, round(seconds * rate)))
    return {"waveform": torch.tensor(noise, dtype=torch.float32), "sample_rate": rate}
