"""A server of this project as a source of portraits, over HTTP and with nothing but the standard library."""

import base64
import io
import json
import os
import secrets
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

KEY = "PHOTOMAKER_API_KEY"


@dataclass(frozen=True)
class Server:
    """One model of a server. Its API key comes from the environment: ComfyUI writes workflows into every picture."""

    url: str
    model: str  # "": the server's default
    timeout_s: float = 600.0

    def generate(self, images: list[np.ndarray], prompt: str, fields: dict[str, Any]) -> list[np.ndarray]:
        """Portraits, uint8 [H, W, 3].

        Args:
            images: uint8 [H, W, 3].
            prompt: with the trigger word.
            fields: of the API, beside prompt, model and photos; None: not sent.

        Raises:
            RuntimeError: one line: what the server says, or that it cannot be reached.
        """
        wanted = {"prompt": prompt, "model": self.model or None} | fields
        texts = {name: str(value) for name, value in wanted.items() if value is not None}
        body, kind = multipart(texts, [png(image) for image in images])
        headers = {"content-type": kind}
        if os.environ.get(KEY):
            headers["authorization"] = f"Bearer {os.environ[KEY]}"
        place = f"{self.url.rstrip('/').removesuffix('/v1')}/v1/images/edits"
        if not place.startswith(("http://", "https://")):
            raise RuntimeError(f"url={self.url!r} is no address; write for example http://127.0.0.1:8000")
        request = urllib.request.Request(place, body, headers)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout_s) as answer:
                found = json.load(answer)
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"the PhotoMaker server refused it: {_said(error)}") from None
        except (urllib.error.URLError, TimeoutError, ValueError) as error:
            raise RuntimeError(f"the PhotoMaker server {place} cannot be reached ({error}); is it running?") from None
        for note in dict.fromkeys(note for image in found["data"] for note in image.get("notes", ())):
            print(f"PhotoMaker: {note}")
        return [decoded(image["b64_json"]) for image in found["data"]]


def multipart(fields: dict[str, str], photos: list[bytes]) -> tuple[bytes, str]:
    """A body of `multipart/form-data`, and its content type."""
    boundary = secrets.token_hex(16)
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    for photo in photos:
        head = 'Content-Disposition: form-data; name="image[]"; filename="photo.png"\r\nContent-Type: image/png'
        parts.append(f"--{boundary}\r\n{head}\r\n\r\n".encode() + photo + b"\r\n")
    return b"".join([*parts, f"--{boundary}--\r\n".encode()]), f"multipart/form-data; boundary={boundary}"


def to_arrays(images: torch.Tensor) -> list[np.ndarray]:
    """ComfyUI's IMAGE, float [B, H, W, C] in 0..1, as uint8 [H, W, 3] each."""
    pixels = (images[..., :3].clamp(0, 1) * 255).round().byte().cpu().numpy()
    return list(pixels)


def to_images(arrays: list[np.ndarray]) -> torch.Tensor:
    """The inverse of `to_arrays`, for pictures of one size."""
    return torch.stack([torch.from_numpy(array.astype(np.float32) / 255) for array in arrays])


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def decoded(text: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(text))) as image:
        return np.asarray(image.convert("RGB"))


def _said(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"status {error.code}"
