"""Turns a scene into pixels and a segment map, at any size."""

from __future__ import annotations

import math

import numpy as np

from fineclip.scenes.shapes import texture_amount
from fineclip.scenes.surfaces import paint_surface
from fineclip.scenes.world import Distractor, Scene, SceneObject, object_distance

MIN_SIZE = 32
"""Smallest image side in pixels at which every object still has pixels of its own."""

_REACH = 0.7  # half of an object's drawing window, in sides: covers any rotated shape
_RIM = 0.045  # width of the pattern-free rim of an object, in sides


def _window(
    center: tuple[float, float], reach: float, size: int
) -> tuple[slice, slice, np.ndarray, np.ndarray]:
    """Pixels within ``reach`` of a centre: row slice, column slice, x (1, w), y (h, 1)."""
    slices, coordinates = [], []
    for value in (center[1], center[0]):
        low = max(0, math.floor((value - reach) * size))
        high = min(size, math.ceil((value + reach) * size) + 1)
        slices.append(slice(low, high))
        coordinates.append((np.arange(low, high, dtype=np.float32) + 0.5) / size)
    return slices[0], slices[1], coordinates[1][None, :], coordinates[0][:, None]


def _mix(canvas: np.ndarray, rgb: np.ndarray, amount: np.ndarray) -> None:
    """Paints over ``canvas`` (h, w, 3) in place, with opacity ``amount`` (h, w)."""
    canvas += (rgb - canvas) * amount[..., None]


def _draw_background(scene: Scene, size: int, rng: np.random.Generator) -> tuple:
    background = scene.background
    layers = [
        paint_surface(surface.name, size, scale, rng) * brightness
        for surface, scale, brightness in zip(
            background.surfaces, background.scales, background.brightness, strict=True
        )
    ]
    region = np.zeros((size, size), dtype=np.int32)
    if len(layers) == 1:
        return layers[0], region
    grid = (np.arange(size, dtype=np.float32) + 0.5) / size
    border = background.horizon + background.slope * (grid - 0.5)
    depth = (grid[:, None] - border[None, :]) * size  # pixels below the border
    image = layers[0]
    _mix(image, layers[1], np.clip(depth + 0.5, 0, 1))
    region[depth >= 0] = 1
    return image, region


def _draw_distractor(canvas: np.ndarray, mark: Distractor, size: int) -> None:
    rows, columns, x, y = _window(mark.center, mark.length, size)
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    cos, sin = math.cos(mark.angle), math.sin(mark.angle)
    along = np.abs(cos * (x - mark.center[0]) + sin * (y - mark.center[1]))
    across = np.abs(cos * (y - mark.center[1]) - sin * (x - mark.center[0]))
    if mark.kind == "line":
        half_width = max(mark.width, 0.4 / size)
        inside = np.minimum(half_width - across, mark.length - along) * size
        amount = np.clip(inside + 0.5, 0, 1)
    else:
        radius = np.hypot(along / mark.length, across / mark.width)
        # Blobs fade out; specks are crisp.
        softness = 0.5 if mark.kind == "blob" else max(0.1, 0.7 / (mark.width * size))
        amount = np.clip((1 - radius) / softness, 0, 1)
    _mix(canvas[rows, columns], np.array(mark.rgb, dtype=np.float32), amount * mark.opacity)


def _draw_object(
    canvas: np.ndarray, segments: np.ndarray, item: SceneObject, number: int, size: int
) -> None:
    rows, columns, x, y = _window(item.center, _REACH * item.side, size)
    distance = object_distance(item, x, y) * size  # pixels
    dx, dy = x - item.center[0], y - item.center[1]

    color = np.broadcast_to(np.array(item.rgb, dtype=np.float32), (*distance.shape, 3))
    cos, sin = math.cos(item.pattern_angle), math.sin(item.pattern_angle)
    shift = item.pattern_phase * item.pattern_period
    u, v = cos * dx + sin * dy + shift, cos * dy - sin * dx + shift
    amount = texture_amount(item.texture, u, v, item.pattern_period, 1 / size)
    if amount is not None:
        color = color.copy()
        # A rim of the main colour keeps the outline closed on a background like the pattern.
        amount = amount * np.clip(0.5 - distance - _RIM * item.side * size, 0, 1)
        _mix(color, np.array(item.pattern_rgb, dtype=np.float32), amount)
    shade = 1 + (item.shade[0] * dx + item.shade[1] * dy) / item.side
    _mix(canvas[rows, columns], color * shade[..., None], np.clip(0.5 - distance, 0, 1))
    segments[rows, columns][distance <= 0] = number


def render_scene(scene: Scene, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws a scene.

    Args:
        scene: The scene.
        size: Side of the image in pixels, at least `MIN_SIZE`.

    Returns:
        Image, (size, size, 3) uint8 RGB; segment map, (size, size) int32: the position of each
        pixel's segment in ``scene.segments`` (objects from back to front, then surfaces). A pixel
        belongs to the front object that covers its centre.

    Raises:
        ValueError: ``size`` is below `MIN_SIZE`.
    """
    if size < MIN_SIZE:
        raise ValueError(f"size must be at least {MIN_SIZE} pixels, got {size}")
    rng = scene.generator(1)
    image, region = _draw_background(scene, size, rng)
    segments = region + len(scene.objects)
    for mark in scene.distractors:
        _draw_distractor(image, mark, size)
    for number, item in enumerate(scene.objects):
        _draw_object(image, segments, item, number, size)

    grid = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    light = 1 + scene.light[0] * grid[None, :] + scene.light[1] * grid[:, None]
    image = image * light[..., None]
    image += rng.standard_normal(image.shape, dtype=np.float32) * np.float32(scene.noise)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), segments
