"""The mouth on the canvas: its parameters, opening and closing it. Geometry on landmarks (468, 2) canvas px only."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from unisync.mask import face_mask, mouth_mask
from unisync.types import Floats, Pixels, Reference

STILL = (33, 133, 362, 263, 168, 6, 197, 195, 98, 2, 327, 234, 454)
"""Points that speech moves little, for laying one frame's face on another's."""
INNER_UPPER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
INNER_LOWER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
CLOSED = 0.015
"""Lip opening, in canvas sides, up to which a mouth counts as closed."""
UPPER_SHARE = 0.4
"""How much of the gap the upper lip closes by coming down; the lower lip closes the rest."""
CLOSED_POSE_WEIGHT = 0.5
SEALED = 0.004
"""Lip opening below which nothing is seen between the lips that a warp could widen."""
STRETCH = 1.6
"""How much higher what lies between the lips may become by a warp."""
TEETH, THROAT = np.array([185.0, 165.0, 150.0], np.float32), np.array([60.0, 22.0, 22.0], np.float32)
"""What is between the lips of a mouth at large, RGB in full light."""
TEETH_AT, TEETH_WIDTH = 0.12, 0.25
"""Where the teeth are brightest and where they end, as shares of the way from upper to lower lip."""
PRESSED = 0.016
"""Openings, in canvas sides, below which lips are brought closer than asked, and pressed by as much where 0 is asked: the
mesh, by which lips are told, sees half of it in shut lips."""
CHEEK = 0.03
"""How far within the outline that the mesh sees, in canvas sides, a cheek surely is one."""
LIFTED = (10.0, 30.0)
"""By how many levels the darkest places of a canvas must be lighter for it to count as faded to white, a little and fully."""
DARKEST = 0.02
"""How much of a region is darker than what is called its darkest."""
NUM_MOUTHS, MOUTH_FRAMES = 48, 750
"""How many frames of a shot lend their mouths, and how far into it they are looked for (half a minute)."""


def lip_parameters(landmarks: Floats, size: int) -> Floats:
    """Return float32 (T, 6) in canvas sides for landmarks (T, 468, 2) canvas px, as nets.audio.LIP_PARAMETERS names them.

    The first two are absolute (0: closed), the others against their median over the T frames, the speaker's own rest.
    """

    def distance(a: int, b: int) -> Floats:
        return np.asarray(np.linalg.norm(landmarks[:, a] - landmarks[:, b], axis=-1) / size, np.float32)

    sides = (distance(82, 87) + distance(312, 317)) / np.float32(2)
    values: list[Floats] = [
        distance(13, 14),
        sides,
        distance(61, 291),
        distance(78, 308),
        distance(2, 152),
        distance(2, 0),
    ]
    table = np.stack(values, axis=1)
    table[:, 2:] -= np.median(table[:, 2:], axis=0)
    return table.astype(np.float32)


def choose_reference(landmarks: Floats, size: int, score: Floats | None = None) -> int:
    """Return the frame whose lips are the most closed in a pose near the usual one.

    landmarks: (T, 468, 2) canvas px.  score: (T,) how sure a face is there; frames under .5 are taken only if all are.
    """
    opening = lip_parameters(landmarks, size)[:, 0]
    pose = landmarks[:, [1, 168, 234, 454]].reshape(len(landmarks), -1) / size
    away = np.linalg.norm(pose - np.median(pose, axis=0), axis=1) / 2
    cost = opening + CLOSED_POSE_WEIGHT * away
    if score is not None and (score >= 0.5).any():
        cost = np.where(score >= 0.5, cost, np.inf)
    return int(np.argmin(cost))


def choose_mouths(landmarks: Floats, size: int, score: Floats) -> NDArray[np.intp]:
    """Return the frames, in order, whose mouths are lent to others: evenly spread over the first MOUTH_FRAMES.

    landmarks: (T, 468, 2) canvas px.  score: (T,) how sure a face is there; frames under .5 lend only if all are.
    """
    sure = np.flatnonzero(score[:MOUTH_FRAMES] >= 0.5)
    fit = sure if len(sure) else np.arange(min(len(landmarks), MOUTH_FRAMES))
    return np.unique(fit[np.linspace(0, len(fit) - 1, min(NUM_MOUTHS, len(fit))).astype(np.intp)])


def closed(reference: Reference) -> Reference:
    """Return the reference, its lips shut if they are not closed as they are."""
    opening = lip_parameters(reference.landmarks[None], reference.pixels.shape[0])[0, 0]
    return reference if opening <= CLOSED else opened(reference, 0.0)


@dataclass(frozen=True, eq=False)
class Opening:
    """How a canvas is warped so that its lips part, or close.

    rows: float32 (S, S), the row of the canvas that each pixel shows.  invented: float32 (S, S) in [0, 1], where a mouth's
    inside is shown that the canvas does not have.  depth: float32 (S, S), how far between upper (0) and lower lip (1).
    """

    rows: Floats
    invented: Floats
    depth: Floats


def opened(reference: Reference, opening: float) -> Reference:
    """Return the reference with its lips so far apart, in canvas sides; landmarks as they were.

    What lies between the lips is squeezed or stretched, to STRETCH of its height at most; closed, it is folded away, the
    upper lip down and the lower lip up; below 0 they are pressed, the upper one over the lower. Opened farther, it is mixed
    with the inside of a mouth at large: dark, with a hint of teeth, for a network to go on from. Skin towards nose and chin
    follows.
    """
    return warped(reference, opening_warp(reference.landmarks, reference.pixels.shape[0], opening))


def warped(reference: Reference, warp: Opening) -> Reference:
    """Return what `opened` does, by the warp of the reference's landmarks that is known already."""
    size = reference.pixels.shape[0]
    across = np.broadcast_to(np.arange(size, dtype=np.float32), (size, size)).astype(np.float32)
    pixels = cv2.remap(reference.pixels, across, warp.rows, cv2.INTER_LINEAR)
    if warp.invented.any():
        face = reference.pixels[round(size * 0.2) : round(size * 0.4)].reshape(-1, 3).astype(np.float32)
        light = np.median(face, axis=0).mean() / 255
        teeth = np.clip(1 - np.abs(warp.depth - TEETH_AT) / TEETH_WIDTH, 0, 1)[..., None]
        dark = _darkest(reference.pixels, face_mask(reference.landmarks, size), reference.landmarks).min(0)
        inside = np.maximum(light * (teeth * TEETH + (1 - teeth) * THROAT), dark)  # films fade from white
        much = cv2.GaussianBlur(warp.invented, (0, 0), size / 160)[..., None]
        pixels = np.clip(np.round(much * inside + (1 - much) * pixels), 0, 255)
    return Reference(np.asarray(pixels, np.uint8), reference.landmarks)


def opening_warp(marks: Floats, size: int, opening: float) -> Opening:
    """Return how `opened` warps a canvas with landmarks (468, 2) canvas px to so wide an opening, in canvas sides."""
    columns, rows = np.arange(size, dtype=np.float32), np.arange(size, dtype=np.float32)[:, None]
    own = float(lip_parameters(marks[None], size)[0, 0])
    upper = np.interp(columns, marks[list(INNER_UPPER), 0], marks[list(INNER_UPPER), 1])
    lower = np.interp(columns, marks[list(INNER_LOWER), 0], marks[list(INNER_LOWER), 1])
    gap = gaussian_filter1d(np.maximum(lower - upper, 0), size / 100).astype(np.float32)
    times = min(opening / own, STRETCH) if own >= SEALED else 1.0
    missing = max(0.0, opening - times * own) * size
    left, right = sorted((marks[78, 0], marks[308, 0]))
    bow = np.sin(np.pi * np.clip((columns - left) / max(right - left, 1), 0, 1))
    more = (times - 1) * gap + missing * bow  # by how much the gap grows, over the columns
    top = upper - UPPER_SHARE * more  # where the inner lips come to lie
    bottom = upper + gap + (1 - UPPER_SHARE) * more
    chin = marks[152, 1]
    above = np.clip((rows - marks[2, 1]) / np.maximum(top - marks[2, 1], 1), 0, 1)
    below = np.clip((chin - rows) / np.maximum(chin - bottom, 1), 0, 1)
    depth = (rows - top) / np.maximum(bottom - top, 1e-3)
    lips = np.where(rows < top, rows + UPPER_SHARE * more * above, rows - (1 - UPPER_SHARE) * more * below)
    inside = (rows >= top) & (rows <= bottom)
    share = missing * bow / np.maximum(bottom - top, 1e-3)
    return Opening(
        np.asarray(np.where(inside, upper + depth * gap, lips), np.float32),
        np.asarray(
            np.where(inside, np.clip(2 * share, 0, 1), 0),  # what hardly opened shows little but lips
            np.float32,
        ),
        np.asarray(np.clip(depth, 0, 1), np.float32),
    )


def neutralised(pixels: Pixels, landmarks: Floats, reference: Reference) -> Pixels:
    """Return canvases uint8 (T, S, S, 3) whose lower face is the reference's, laid on by still points, colour matched.

    This is what keeps a film's old lips from leaking into the new ones: the method never sees them.
    """
    return np.stack([laid(image, points, reference)[0] for image, points in zip(pixels, landmarks, strict=True)])


def laid(image: Pixels, points: Floats, reference: Reference) -> tuple[Pixels, Floats]:
    """Return a canvas (S, S, 3) as `neutralised` does, and the gain (3,) that matched the reference's colours to its own."""
    size = len(image)
    matrix = laid_on(reference.landmarks, points, size)
    donor = np.asarray(
        cv2.warpAffine(reference.pixels, matrix, (size, size), borderMode=cv2.BORDER_REFLECT_101), np.uint8
    )
    moved = np.asarray(reference.landmarks @ matrix[:, :2].T + matrix[:, 2], np.float32)
    face = face_mask(moved, size, inset=CHEEK)  # beside a face that is turned otherwise lies what is behind it
    mask = (np.maximum(mouth_mask(points, size), mouth_mask(moved, size)) * face)[..., None]
    own_face = face_mask(points, size)
    rim = ((mask > 0) & (mask < 1))[..., 0] & (face == 1) & (own_face == 1)
    gain, lift = np.ones(3, np.float32), np.zeros(3, np.float32)
    if rim.any():
        dark = _darkest(image, own_face, points), _darkest(donor, own_face, points)
        gain, lift = _matched(image[rim].mean(0), donor[rim].mean(0), *dark)
    blend = mask * (donor * gain + lift) + (1 - mask) * image
    return np.clip(np.round(blend), 0, 255).astype(np.uint8), gain


def _matched(goal: Floats, own: Floats, dark: Floats, own_dark: Floats) -> tuple[Floats, Floats]:
    """Return gain and lift (3,) that bring skin `own` to `goal`: a gain where a film fades from black, and where its
    darkest places (2, 3) have turned light, as in a fade from white, what brings these along too."""
    lifted = (dark - own_dark).mean(-1)
    at = int(lifted.argmin())  # who blinks hides dark pupils, and a bright wall may take a dark one's place
    faded = np.clip((lifted[at] - LIFTED[0]) / (LIFTED[1] - LIFTED[0]), 0, 1)
    gain = (goal + 1) / (own + 1)
    flat = np.clip((goal - dark[at] + 1) / np.maximum(own - own_dark[at] + 1, 1), 0, gain)
    return np.asarray(gain + faded * (flat - gain), np.float32), np.asarray(faded * (goal - flat * own), np.float32)


def _darkest(pixels: Pixels, face: Floats, points: Floats) -> Floats:
    """Return float32 (2, 3): the darkest colours of a canvas and, within it, of the face (its mask) above the mouth."""
    whole, upper = pixels[::2, ::2].reshape(-1, 3), slice(0, max(0, round(float(points[2, 1]))), 2)
    above = pixels[upper, ::2][face[upper, ::2] > 0]

    def darkest(colours: Pixels) -> Pixels:
        at = round(DARKEST * (len(colours) - 1))
        return np.asarray(np.partition(colours, at, axis=0)[at], np.uint8)

    return np.stack([darkest(whole), darkest(above if len(above) else whole)]).astype(np.float32)


def laid_on(marks: Floats, goal: Floats, size: int) -> NDArray[np.float64]:
    """Return the affine (2, 3) that lays one face on another by what speech moves little, drawn towards the identity.

    marks, goal: (468, 2) canvas px.
    """
    source, goal = marks[list(STILL)], goal[list(STILL)]
    a = np.hstack([source / size - 0.5, np.ones((len(source), 1))]).astype(np.float64)
    b = goal / size - 0.5 - a[:, :2]
    pull = np.diag([0.02, 0.02, 0.0]) * len(source)
    step = np.linalg.solve(a.T @ a + pull, a.T @ b).T
    linear = np.eye(2) + step[:, :2]
    shift = (step[:, 2] + 0.5 - linear @ np.array([0.5, 0.5])) * size
    return np.hstack([linear, shift[:, None]])
