"""Files that are no good photos, and the reason why each is rejected."""

import os
import struct
import zlib

import numpy as np
from PIL import Image


def noise(seed: int, side: int = 64, mode: str = "RGB") -> Image.Image:
    """A picture like no other."""
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC).convert(mode)


def png_bomb(width: int, height: int) -> bytes:
    """A PNG of one colour that is a few hundred kilobytes on disk and width x height pixels in memory."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compressobj(9)
    data = b"".join(rows.compress(bytes((width + 7) // 8 + 1)) for _ in range(height)) + rows.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def _gif(path):
    frames = [noise(i) for i in range(3)]
    frames[0].save(path, "GIF", save_all=True, append_images=frames[1:])


def _link_to_itself(path):
    path.symlink_to(path)


def _link_to_nowhere(path):
    path.symlink_to(path.with_name("nowhere"))


ODD_FILES = {
    "empty.jpg": (lambda p: p.write_bytes(b""), "unreadable"),
    "truncated.jpg": (lambda p: (noise(1).save(p), p.write_bytes(p.read_bytes()[:-200])), "unreadable"),
    "one.png": (lambda p: Image.new("RGB", (1, 1)).save(p), "too_small"),
    "bomb.png": (lambda p: p.write_bytes(png_bomb(30000, 30000)), "too_many_pixels"),
    "large.png": (lambda p: p.write_bytes(png_bomb(3001, 3001)), "too_many_pixels"),
    "heavy.bmp": (lambda p: noise(2, 600).save(p), "too_many_bytes"),
    "animated.gif": (_gif, None),
    "cmyk.jpg": (lambda p: noise(3, mode="CMYK").save(p), None),
    "grey16.png": (lambda p: Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64) * 15).save(p), None),
    "palette.png": (lambda p: noise(4).quantize(16).save(p), None),
    "document.jpg": (lambda p: p.write_bytes(b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n" + bytes(500)), "unreadable"),
    "program.jpg": (lambda p: p.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n{} loop"), "unreadable"),
    "page.png": (lambda p: p.write_text("<html>404</html>"), "unreadable"),
    "pipe.jpg": (lambda p: os.mkfifo(p), "unreadable"),
    "itself.jpg": (_link_to_itself, "unreadable"),
    "nowhere.jpg": (_link_to_nowhere, "unreadable"),
    "with space.png": (lambda p: noise(5).save(p), None),
    'it\'s "quoted" & $HOME;`ls`.png': (lambda p: noise(6).save(p), None),
    "王さん-Ångström-👩.png": (lambda p: noise(7).save(p), None),
    "new\nline.png": (lambda p: noise(8).save(p), None),
    "-rf *.png": (lambda p: noise(9).save(p), None),
    "UPPER.JPG": (lambda p: noise(10).save(p, "JPEG"), None),
}
