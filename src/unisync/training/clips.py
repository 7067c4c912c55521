"""Cached latents as training samples: each target beside a source that carries other lips."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from unisync.audio.mel import BANDS, RATE, SILENCE, log_mel
from unisync.audio.moments import at_moments, token_moments
from unisync.errors import OptionError
from unisync.nets.audio import AudioEncoder
from unisync.nets.expert import ROWS_PER_FRAME
from unisync.nets.transformer import TransformerConfig
from unisync.training.pairs import PairedRecipe
from unisync.types import Sound

Ears = Callable[[Sound], Tensor]
"""What hears in the audio encoder's place: 16 kHz speech -> features (N, D), 50 a second."""


@dataclass(frozen=True, kw_only=True)
class SamplingRecipe(PairedRecipe):
    """What a sample is made of. Probabilities are per sample; what the source's four leave is neutralised."""

    frames: int = 8
    transplant: float = 0.2
    """Source with another moment's mouth, of nearly the same pose."""
    lent: float = 0.4
    """Source with another moment's mouth of nearly the same lips, as dubbing lends a shot's own."""
    masked: float = 0.12
    """Source without a mouth; 1 is masked pre-training."""
    redub: float = 0.0
    """Source as an earlier model painted it with other speech; 0 unless the recipe makes such films."""
    silent: float = 0.08
    drop_audio: float = 0.15
    drop_lips: float = 0.3
    drop_both: float = 0.05
    drop_text: float = 0.1
    """Share of the batches that are told no text, where there is one."""
    lip_noise: float = 0.12

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in (
            "transplant",
            "lent",
            "masked",
            "redub",
            "silent",
            "drop_audio",
            "drop_lips",
            "drop_both",
            "drop_text",
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise OptionError(f"{name} is a probability, from 0 to 1, not {getattr(self, name):g}")
        if self.transplant + self.lent + self.masked + self.redub > 1:
            raise OptionError("transplant, lent, masked and redub are shares of the samples: together at most 1")


@dataclass(frozen=True, eq=False)
class Clip:
    """One film's latents (T, C, h, w): as it is, with neutral, other and lent lips, of its pose, redubbed.

    mask: (T, h, w) of the mouth.  lips: (T, 6) standardised.  reference: the frame with the most closed lips.
    features: (N, D) of its speech.  pairs: (N, 2), as `unisync.training.pairs.mine` gives them.
    """

    key: str
    latents: Tensor
    neutral: Tensor
    other: Tensor
    lent: Tensor
    pose: Tensor
    mask: Tensor
    lips: Tensor
    seconds: Tensor
    reference: int
    features: Tensor | None
    speaker: str
    redub: Tensor | None = None
    mel: Tensor | None = None
    pairs: Tensor | None = None


def load_clips(
    folder: Path,
    audio: AudioEncoder,
    redubs: Path | None = None,
    hear: bool = False,
    pairs: Mapping[str, Tensor] | None = None,
    ears: Ears | None = None,
) -> list[Clip]:
    """Return the clips of a folder that `unisync.training.latents` filled, lips standardised, speech encoded by `audio`.

    redubs: a folder that `unisync.training.redub` filled.  hear: with mel bands (100 rows a second), for the sync term.
    pairs: as `unisync.training.pairs.load_pairs` gives them.  ears: what hears in the place of `audio`.
    """
    clips = []
    for path in sorted(folder.glob("*.pt")):
        data = torch.load(path, weights_only=True, mmap=True)
        features = mel = None
        if data["speech"]:
            sound = Sound(data["pcm"].float().numpy() / 32768, RATE)
            mel = log_mel(sound)
            features = encode_speech(audio, mel) if ears is None else ears(sound)
        lips = (data["lips"] - audio.lip_mean.cpu()) / audio.lip_std.cpu()
        clips.append(
            Clip(
                key=path.stem,
                latents=data["latents"],
                neutral=data["neutral"],
                other=data["other"],
                lent=data["lent"],
                pose=data["pose"],
                mask=data["mask"],
                lips=lips,
                seconds=data["seconds"],
                reference=data["reference"],
                features=features,
                speaker=data["speaker"],
                redub=torch.load(redubs / path.name, weights_only=True, mmap=True) if redubs else None,
                mel=mel if hear else None,
                pairs=pairs[path.stem] if pairs is not None else None,
            )
        )
    return clips


@torch.no_grad()
def encode_speech(audio: AudioEncoder, mel: Tensor) -> Tensor:
    """Return features (N, D) of mel (2N, 80) at the encoder's rate."""
    features: Tensor = audio.eval()(mel[None].to(audio.lip_mean.device))[0][0].cpu()
    return features


@torch.no_grad()
def silence_of(audio: AudioEncoder) -> Tensor:
    """Return the features (D,) of digital silence."""
    mel = torch.full((1, 200, audio.config.bands), SILENCE, device=audio.lip_mean.device)
    features: Tensor = audio.eval()(mel)[0][0, 50].cpu()
    return features


class Sampler:
    """Draws training samples; speakers with much film do not drown the others.

    levels: draws a noise level, for samples whose source depends on it.  text: (1, L, D), told beside them all.
    """

    def __init__(
        self,
        clips: list[Clip],
        recipe: SamplingRecipe,
        config: TransformerConfig,
        silence: Tensor,
        levels: Callable[[random.Random], float] | None = None,
        text: Tensor | None = None,
    ) -> None:
        self.recipe, self.config, self.silence, self.levels, self.text = recipe, config, silence, levels, text
        self.clips = [clip for clip in clips if len(clip.latents) >= 2 * recipe.frames]
        if not self.clips:
            raise OptionError(f"the dataset has no clip of {2 * recipe.frames} frames or more: prepare longer ones")
        self.hear = any(clip.mel is not None for clip in clips)
        total: dict[str, int] = {}
        for clip in self.clips:
            total[clip.speaker] = total.get(clip.speaker, 0) + len(clip.latents)
        self.weights = [len(clip.latents) / total[clip.speaker] ** 0.6 for clip in self.clips]
        self.random = random.Random(recipe.seed)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        while True:
            yield self.draw()

    def draw(self) -> dict[str, Tensor]:
        """Return a batch of samples."""
        chosen = self.random.choices(self.clips, self.weights, k=self.recipe.batch)
        samples = [self.sample(clip) for clip in chosen]
        batch = {name: torch.stack([s[name] for s in samples]) for name in samples[0]}
        if self.text is not None and self.random.random() >= self.recipe.drop_text:
            batch["text"] = self.text.expand(len(samples), -1, -1)
        return batch

    def sample(self, clip: Clip) -> dict[str, Tensor]:
        """Return one sample: target, source, pose (C, F, h, w), mask (1, F, h, w), lips, audio, keeps (F,) and seconds.

        With levels, sigma () too.
        """
        recipe, rnd = self.recipe, self.random
        level = self.levels(rnd) if self.levels else None
        source: Tensor | None = None
        if level is not None and rnd.random() < recipe.paired:
            span, source = self._paired(clip, level)
        else:
            span = self._stretch(clip)
        target, neutral = clip.latents[span].float(), clip.neutral[span].float()
        mask = clip.mask[span, None].float()
        lips, seconds = clip.lips[span].clone(), clip.seconds[span].float()
        silent = rnd.random() < recipe.silent
        if silent:
            lips[:] = clip.lips[clip.reference]
            target = neutral
        if source is None:
            source = self._source(clip, span, target, mask)
        tokens = self.config.audio_tokens
        if clip.features is None or silent:
            audio = self.silence.expand(recipe.frames, tokens, -1)
        else:
            audio = at_moments(clip.features, 50.0, token_moments(seconds, tokens))
        hears, sees = self.keeps(clip.features is not None or silent)
        sample = {
            "target": target.transpose(0, 1),
            "source": source.transpose(0, 1),
            "pose": clip.pose[span].float().transpose(0, 1),
            "mask": mask.transpose(0, 1),
            "lips": lips + recipe.lip_noise * torch.randn(lips.shape),
            "audio": audio,
            "seconds": seconds - seconds[0],
            "keep_audio": torch.tensor(hears),
            "keep_lips": torch.tensor(sees),
        }
        if level is not None:
            sample["sigma"] = torch.tensor(level)
        if self.hear:
            sample |= self._mel(clip, float(seconds[0]), silent)
        return sample

    def _stretch(self, clip: Clip) -> slice:
        """Return any stretch of a clip, now and then at half the frame rate."""
        length, frames = len(clip.latents), self.recipe.frames
        stride = 2 if length >= 4 * frames and self.random.random() < 0.2 else 1
        start = self.random.randrange(length - frames * stride + 1)
        return slice(start, start + frames * stride, stride)

    def _source(self, clip: Clip, span: slice, target: Tensor, mask: Tensor) -> Tensor:
        """Return the target with other lips (F, C, h, w), or without."""
        recipe = self.recipe
        shares = {"masked": recipe.masked, "other": recipe.transplant, "lent": recipe.lent, "redub": recipe.redub}
        (kind,) = self.random.choices([*shares, "neutral"], [*shares.values(), max(0.0, 1 - sum(shares.values()))])
        if kind == "neutral":
            return clip.neutral[span].float()
        mouth = torch.zeros_like(target) if kind == "masked" else getattr(clip, kind)[span].float()
        return target * (1 - mask) + mouth * mask

    def _paired(self, clip: Clip, level: float) -> tuple[slice, Tensor]:
        """Return a target's stretch and its source (F, C, h, w) by timestep-dependent sampling (OmniSync Eq 3).

        In a film without a pseudo-pair the source is the target's own stretch with transplanted lips.
        """
        frames, rnd = self.recipe.frames, self.random
        if level <= self.recipe.paired_above:
            start, other = (rnd.randrange(len(clip.latents) - frames + 1) for _ in range(2))
        elif clip.pairs is not None and len(clip.pairs):
            start, other = clip.pairs[rnd.randrange(len(clip.pairs))].tolist()
        else:
            span = self._stretch(clip)
            return span, clip.other[span].float()
        return slice(start, start + frames), clip.latents[other : other + frames].float()

    def _mel(self, clip: Clip, start: float, silent: bool) -> dict[str, Tensor]:
        """Return the window's mel rows (4 F, 80), as the sync expert hears it, and whether it has any."""
        num = ROWS_PER_FRAME * self.recipe.frames
        if clip.mel is None or silent:
            return {"mel": torch.zeros(num, BANDS), "has_mel": torch.tensor(0.0)}
        return {"mel": at_moments(clip.mel, 100.0, start + torch.arange(num) / 100), "has_mel": torch.tensor(1.0)}

    def keeps(self, has_sound: bool) -> tuple[float, float]:
        """Return 1 or 0 for: the model is told the audio, the lip parameters."""
        recipe, rnd = self.recipe, self.random
        if rnd.random() < recipe.drop_both:
            return 0.0, 0.0
        if not has_sound:
            return 0.0, 1.0
        hears = rnd.random() >= recipe.drop_audio
        return float(hears), float(not hears or rnd.random() >= recipe.drop_lips)
