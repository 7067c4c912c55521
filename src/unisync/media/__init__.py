"""Films, pictures and sound, in and out of files: the one place that knows FFmpeg."""

from unisync.media.encode import CODECS, CONTAINERS, PRESETS, EncodeOptions, check_encode, check_out
from unisync.media.film import Film, cut, drawn, extend, held
from unisync.media.picture import AvPicture
from unisync.media.prefetch import prefetch
from unisync.media.probe import probe
from unisync.media.reader import read_frames
from unisync.media.sound import Speech, as_speech, read_sound
from unisync.media.writer import write_film

__all__ = [
    "CODECS",
    "CONTAINERS",
    "PRESETS",
    "AvPicture",
    "EncodeOptions",
    "Film",
    "Speech",
    "as_speech",
    "check_encode",
    "check_out",
    "cut",
    "drawn",
    "extend",
    "held",
    "prefetch",
    "probe",
    "read_frames",
    "read_sound",
    "write_film",
]
