"""Where a point of the avataaars drawing lies in a photo of a framing."""

import math

from pm.toon.attributes import Framing

CANVAS = 280.0  # side of the avataaars drawing, in its own units
CENTER = (140.0, 150.0)  # the point that framing scales and rotates about


def to_pixels(x: float, y: float, framing: Framing, size: float) -> tuple[float, float]:
    """A point in drawing units → its place, in pixels, in a photo of `size` × `size`; it may lie outside."""
    angle, (cx, cy) = math.radians(framing.rotation), CENTER
    dx, dy = (x - cx) * framing.scale, (y - cy) * framing.scale
    px = cx + framing.x * CANVAS + dx * math.cos(angle) - dy * math.sin(angle)
    py = cy + framing.y * CANVAS + dx * math.sin(angle) + dy * math.cos(angle)
    return px * size / CANVAS, py * size / CANVAS
