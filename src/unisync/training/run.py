"""A recipe from end to end. Each stage leaves its result in the work folder; what is there is not made again."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unisync.audio.mel import RATE
from unisync.backbones.mini import KIND, Mini, embedded_weights, hears_with
from unisync.backbones.speech_encoders import check_encoder, encoder_of
from unisync.backbones.text import read_text
from unisync.errors import OptionError
from unisync.metrics.expert import load_expert
from unisync.nets.audio import AudioEncoder
from unisync.nets.expert import ExpertConfig
from unisync.nets.transformer import Transformer, TransformerConfig
from unisync.nets.vae import FaceVae
from unisync.nets.weights import fill, read_weights, save_weights
from unisync.training.audio import Utterance, lip_gain, load_utterances, measure_lips, train_audio
from unisync.training.checkpoint import signature
from unisync.training.clips import Clip, Ears, Sampler, SamplingRecipe, load_clips, silence_of
from unisync.training.dataset import Sample, read_rows, read_sample
from unisync.training.distil import distil_loss
from unisync.training.expert import train_expert
from unisync.training.large import train_large
from unisync.training.latents import encode_samples
from unisync.training.loop import Batch, Job, Look, Loop, Terms, accelerator
from unisync.training.lora import add_lora, lora_spec, save_lora
from unisync.training.painting import STEPS, Looker
from unisync.training.pairs import load_pairs
from unisync.training.recipe import Recipe
from unisync.training.redub import make_redubs
from unisync.training.taught import sounds_of, teacher_of, train_taught
from unisync.training.terms import ExtraLosses
from unisync.training.transformer import TransformerRecipe, draw_level, guess_of, velocity_loss
from unisync.training.vae import measure_latents, stock_of, train_vae
from unisync.types import Sound

MIN_ROWS = 300
"""Mel rows (3 s) that a held-out utterance needs for its correlation to say something."""
NETWORKS: dict[str, Callable[[Any], nn.Module]] = {"vae": FaceVae, "audio": AudioEncoder, "transformer": Transformer}


class Run:
    """One recipe on this machine. In a run of several processes each has one; the first writes what all read."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.dataset, self.work, self.out = Path(recipe.dataset), Path(recipe.work), Path(recipe.out)
        self.accelerator = accelerator()
        self.device = self.accelerator.device
        # Whether what is trained begins with nothing.
        self.fresh = not (recipe.go_on or recipe.lora or recipe.kind == "distil")

    def run(self) -> Path:
        """Do what is not done yet and return the file written. Raises UnisyncError."""
        parent = self.out.absolute().parent
        if not (parent.is_dir() or parent == self.work.absolute()) or self.out.is_dir():
            raise OptionError(f"{self.out}: cannot be written there; name a file in a folder that exists")
        if self.recipe.kind == "wan":
            assert self.recipe.lora is not None
            train_large(self.recipe.wan, self.recipe.lora, self.dataset, self.work, self.out)
            return self.out
        kind, audio = self.recipe.kind, self.recipe.audio
        read_rows(self.dataset)  # what would fail after hours fails now
        if kind in ("embedded", "transformer", "distil"):
            _ = self.ears, self.text
        if audio.teacher and (kind == "audio" or (kind == "embedded" and not self.recipe.go_on)):
            teacher_of(audio)
            sounds_of(audio)
        self.work.mkdir(parents=True, exist_ok=True)
        if kind == "vae" or kind == "audio":
            self._write_part(self._train(kind), kind, self.out)
        elif kind == "distil":
            self._distil()
        elif kind == "expert":
            train_expert(self.dataset, self.work / kind, self.out, self.recipe.expert, ExpertConfig())
        else:
            self._transformer()
        return self.out

    @cached_property
    def given(self) -> Mini:
        """The weights that the recipe names, or the shipped ones."""
        path = Path(self.recipe.weights) if self.recipe.weights else embedded_weights()
        folder = self.recipe.audio_encoder
        return Mini(path, str(self.device), audio_encoder=Path(folder) if folder else None)

    @cached_property
    def vae(self) -> FaceVae:
        """The autoencoder, frozen: made here if the recipe is the whole way, else given."""
        vae = self._stage("vae")
        assert isinstance(vae, FaceVae)
        return vae

    @cached_property
    def audio(self) -> AudioEncoder:
        """The audio encoder, likewise."""
        audio = self._stage("audio")
        assert isinstance(audio, AudioEncoder)
        return audio

    @cached_property
    def ears(self) -> Ears | None:
        """What the transformer attends to in the audio encoder's place, if the recipe names it."""
        if not self.recipe.audio_encoder:
            return None
        folder = Path(self.recipe.audio_encoder)
        needs = hears_with(self._config.audio_width)
        check_encoder(folder, needs)
        encoder = encoder_of(folder, needs)
        return lambda sound: encoder(sound.samples, self.device)[:, 0]

    @property
    def _config(self) -> TransformerConfig:
        """What the transformer is that is trained."""
        return self.recipe.networks.transformer if self.fresh else self.given.transformer.config

    def _silence(self) -> Tensor:
        """Return the features (D,) of digital silence."""
        if self.ears is None:
            return silence_of(self.audio)
        return self.ears(Sound(np.zeros(2 * RATE, np.float32), RATE))[50]

    @cached_property
    def text(self) -> Tensor | None:
        """The text (1, L, D) that the transformer is told, if the recipe names one."""
        if not self.recipe.text:
            return None
        if not self._config.text_width:
            raise OptionError("text: the transformer reads none; give networks.transformer a text_width of 4096")
        return read_text(Path(self.recipe.text)).prompt

    def _clips(self, part: str, redubs: Path | None = None, recipe: TransformerRecipe | None = None) -> list[Clip]:
        """Return the clips of a part, with what a transformer's recipe needs of them."""
        pairs = self._pairs(recipe) if recipe and recipe.paired else None
        hear = recipe is not None and recipe.extra.sync > 0
        return load_clips(self._latents(part), self.audio, redubs, hear, pairs, self.ears)

    def _stage(self, part: str) -> nn.Module:
        """Return a network of the whole way, trained if its file is not there, with the file's own roundings."""
        if self.recipe.kind != "embedded" or self.recipe.go_on:
            given: nn.Module = getattr(self.given, part)
            return given
        file = self.work / f"{part}.safetensors"
        if not file.exists():
            self._write_part(self._train(part), part, file)
        network = NETWORKS[part](getattr(self.recipe.networks, part))
        fill(network, read_weights(file)[0], part, file)
        return network.eval().requires_grad_(False).to(self.device)

    def _network(self, part: str) -> Any:
        """Return a network to train: new, or the given one, with LoRA over it if the recipe says so."""
        recipe = self.recipe
        torch.manual_seed(getattr(recipe, part).seed)
        if self.fresh:
            return NETWORKS[part](getattr(recipe.networks, part))
        network = copy.deepcopy(getattr(self.given, part)).requires_grad_(True)
        if recipe.lora is not None:
            add_lora(network, recipe.lora)
        return network

    def _spec(self, part: str, network: Any) -> dict[str, Any]:
        """Return what a checkpoint says of itself: what is trained, and from which weights it began."""
        begin = "" if self.fresh else signature(getattr(self.given, part))
        return {"kind": part, part: asdict(network.config), "begin": begin} | lora_spec(self.recipe.lora)

    def _train(self, part: str) -> nn.Module:
        """Train the autoencoder or the audio encoder."""
        recipe, network, folder = self.recipe, self._network(part), self.work / part
        spec = self._spec(part, network)
        if part == "vae":
            num = recipe.vae.frames_per_clip
            stocks = stock_of(self.samples("train"), num), stock_of(self.samples("held"), num)
            average = train_vae(network, stocks, folder, recipe.vae, spec)
            if recipe.lora is None:
                measure_latents(average, stocks[0])
            return average
        train, held = self._utterances("train"), self._utterances("held")
        if self.fresh:
            measure_lips(network, train)
        if recipe.audio.teacher:
            return train_taught(network, (train, held), self.work, recipe.audio, spec)
        return train_audio(network, (train, held), folder, recipe.audio, spec)

    def _transformer(self) -> None:
        recipe = self.recipe.transformer
        vae, audio = self.vae, self.audio
        network = self._network("transformer")
        _check_fit(network, vae, None if self.ears else audio)
        redubs = self._redubs(recipe) if recipe.redub > 0 else None
        clips = self._clips("train", redubs, recipe)
        extra = None
        if recipe.extra.wanted:
            extra = ExtraLosses(recipe.extra, vae, load_expert() if recipe.extra.sync > 0 else None)

        def loss(network: Transformer, batch: Batch) -> Terms:
            guess = guess_of(network, batch, recipe)
            terms = {"velocity": velocity_loss(guess, batch, recipe)}
            return terms | extra(guess.data, batch) if extra else terms

        trained = self._fit(network, clips, recipe, loss, extra)
        self._write(trained, STEPS)

    def _distil(self) -> None:
        recipe, teacher = self.recipe.distil, self.given.transformer
        clips = self._clips("train")

        def loss(network: Transformer, batch: Batch) -> Terms:
            return {"distil": distil_loss(network, teacher, batch, recipe)}

        trained = self._fit(self._network("transformer"), clips, recipe, loss, None)
        self._write(trained, recipe.student_steps)

    def _fit(
        self,
        network: Transformer,
        clips: list[Clip],
        recipe: SamplingRecipe,
        loss: Callable[[Transformer, Batch], Terms],
        extra: ExtraLosses | None,
    ) -> Transformer:
        """Run the loop on latents and return the average."""
        weighted = recipe if isinstance(recipe, TransformerRecipe) else None
        levels = partial(draw_level, weighted) if weighted and weighted.paired else None
        sampler = Sampler(clips, recipe, network.config, self._silence(), levels, self.text)
        held = [clip for clip in self._clips("held") if len(clip.latents) >= 2 * recipe.frames]
        looker = Looker(held, sampler, self.vae) if held else None
        steps = STEPS if weighted else self.recipe.distil.student_steps

        def look(average: Transformer) -> Look:
            assert looker is not None
            return looker(average, weighted, steps)

        job = Job(
            network=network,
            draw=sampler.draw,
            loss=loss,
            spec=self._spec("transformer", network),
            rnd=sampler.random,
            look=look if looker else None,
            critics=extra.critics if extra else {},
            frozen=extra.frozen if extra else (),
        )
        average = Loop(job, recipe, self.work / self._folder).run()
        assert isinstance(average, Transformer)
        return average

    @property
    def _folder(self) -> str:
        return "distil" if self.recipe.kind == "distil" else "transformer"

    def _redubs(self, recipe: TransformerRecipe) -> Path:
        """Return the folder of the clips as the given weights dub them with other speech."""
        painter = self.given.transformer
        out = self.work / f"redubs-{signature(painter)}"
        clips = self._clips("train")
        make_redubs(self._share(clips), clips, painter, recipe.frames, out)
        self.accelerator.wait_for_everyone()
        return out

    def _pairs(self, recipe: TransformerRecipe) -> dict[str, Tensor]:
        """Return the pseudo-pairs of the training clips, mined by the first process."""
        folder, spread = self._latents("train"), self.audio.lip_std
        with self.accelerator.main_process_first():
            return load_pairs(folder, self.work, spread, recipe.frames, recipe.pair_pose, recipe.pair_lips)

    def _latents(self, part: str) -> Path:
        """Return the folder of a part's latents by this autoencoder: another one's must not be taken for them."""
        out = self.work / f"latents-{signature(self.vae)}" / part
        rows = [row for row in self._share(read_rows(self.dataset, part)) if not (out / f"{row.key}.pt").exists()]
        samples = (read_sample(self.dataset, row) for row in rows)
        encode_samples(samples, out, self.vae, self.audio.lip_std.cpu().numpy())
        self.accelerator.wait_for_everyone()
        return out

    def _share(self, items: list[Any]) -> list[Any]:
        """Return what this process is to do of many things."""
        return list(islice(items, self.accelerator.process_index, None, self.accelerator.num_processes))

    def _utterances(self, part: str) -> list[Utterance]:
        found = load_utterances(self.samples(part), self.recipe.audio.min_motion)
        return found if part == "train" else [u for u in found if len(u.mel) >= MIN_ROWS]

    def samples(self, part: str) -> Iterator[Sample]:
        """Yield the samples of a part of the dataset."""
        return (read_sample(self.dataset, row) for row in read_rows(self.dataset, part))

    def _write_part(self, network: Any, part: str, file: Path) -> None:
        if self.accelerator.is_main_process and self.recipe.lora is not None:
            save_lora(file, network, part, self.recipe.lora)
        elif self.accelerator.is_main_process:
            save_weights(file, {part: network}, {"kind": part, part: asdict(network.config)})
        self.accelerator.wait_for_everyone()

    def _write(self, transformer: Transformer, steps: int) -> None:
        """Write what `dub` takes: a LoRA file, or the three networks and the spec they need."""
        if self.recipe.lora is not None:
            self._write_part(transformer, "transformer", self.out)
            return
        if self.accelerator.is_main_process:
            spec = {
                "kind": KIND,
                "canvas": self._canvas(),
                "length": getattr(self.recipe, self._folder).frames,
                "steps": steps,
                "lip_gain": round(self._gain(), 3),
                "vae": asdict(self.vae.config),
                "audio": asdict(self.audio.config),
                "transformer": asdict(transformer.config),
            }
            if self.ears is not None:
                spec["hearing"] = {"kind": "whisper", "width": transformer.config.audio_width}
            save_weights(self.out, {"vae": self.vae, "audio": self.audio, "transformer": transformer}, spec)
        self.accelerator.wait_for_everyone()

    def _canvas(self) -> int:
        return next(self.samples("train")).canvases.pixels.shape[1]

    def _gain(self) -> float:
        """Return the gain of an audio encoder made here, over speakers it has not learnt if there are any; else the given."""
        if self.recipe.kind != "embedded" or self.recipe.go_on:
            return self.given.lips.gain
        return lip_gain(self.audio, self._utterances("held") or self._utterances("train"))


def train_by(recipe: Recipe) -> Path:
    """Train by a recipe and return the file written; a run that was stopped goes on. Raises UnisyncError."""
    return Run(recipe).run()


def _check_fit(transformer: Transformer, vae: FaceVae, audio: AudioEncoder | None) -> None:
    config = transformer.config
    if config.channels != vae.config.latent_channels:
        channels = vae.config.latent_channels
        raise OptionError(f"the transformer takes {config.channels} channels, the autoencoder gives {channels}")
    if audio is not None and config.audio_width != audio.config.width:
        width = audio.config.width
        raise OptionError(f"the transformer hears {config.audio_width} features, the audio encoder gives {width}")
