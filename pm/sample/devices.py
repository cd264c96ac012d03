"""Where a pipeline computes, in which precision, and how it saves memory."""

import logging
from typing import Any

import torch

from pm.errors import CheckpointError, ConfigError, RequestError
from pm.model.base import BaseModel, move_base
from pm.model.fused import LoraSwitch
from pm.model.offload import Offload, Offloader
from pm.model.quantized import is_quantized
from pm.sample.adapters import Adapter

_log = logging.getLogger(__name__)


def best_device() -> torch.device:
    """The accelerator of this machine: CUDA (also ROCm), Apple's MPS, Intel's XPU; the CPU without any."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("xpu" if torch.xpu.is_available() else "cpu")


def pick_device(name: str) -> torch.device:
    """The device of a configuration; `auto` is `best_device`.

    Raises:
        ConfigError: not a device, or one that is not there.
    """
    if name == "auto":
        return best_device()
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device={name!r} is not a device; use auto, cpu, cuda, cuda:<n>, mps or xpu") from None
    counts = {"cuda": torch.cuda.device_count(), "xpu": torch.xpu.device_count(), "cpu": 1}
    counts["mps"] = int(torch.backends.mps.is_available())
    count = counts.get(device.type, 0)
    if (device.index or 0) >= count:
        what = "GPUs" if device.type == "cuda" else f"{device.type} devices"
        raise ConfigError(f"device={name} is not there ({count} {what}); use device=cpu")
    return device


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto`: bfloat16 on CUDA and XPU, float16 on MPS, and float32 on the CPU, where half precision is slower."""
    if name == "auto":
        half = torch.float16 if device.type == "mps" else torch.bfloat16
        return torch.float32 if device.type == "cpu" else half
    found: torch.dtype = getattr(torch, name)
    return found


class Placed:
    """The methods of diffusers' pipelines for devices and memory."""

    base: BaseModel
    _switch: LoraSwitch | None
    _adapters: dict[str, Adapter]
    _offloader: Offloader | None = None

    def to(self: Any, *where: str | torch.device | torch.dtype, **named: Any) -> Any:
        """Move and cast everything, as diffusers' pipelines do: `to("cuda")`, `to("mps", torch.float16)`.

        Args:
            where: a device, a dtype, or both; a device ends an offload.
            named: `device`, `dtype`; all others of diffusers are not needed.

        Raises:
            CheckpointError: the model is in training.
            ConfigError: the device is not there.
        """
        given = [*where, *(named[name] for name in ("device", "torch_device", "dtype", "torch_dtype") if name in named)]
        dtype = next((value for value in given if isinstance(value, torch.dtype)), self.base.unet.dtype)
        device = next((value for value in given if value is not None and not isinstance(value, torch.dtype)), None)
        if self._switch is None:
            raise CheckpointError("a model in training is moved by its trainer")
        if dtype != self.base.unet.dtype and is_quantized(self.base.unet):
            raise CheckpointError(f"a U-Net in 8 bits cannot be cast to {dtype}; load it anew with dtype={dtype}")
        self._switch.forget()
        if self._offloader is not None:
            self._offloader.rest()
            if device is not None:
                self.disable_offload()
        device = self.base.unet.device if device is None else pick_device(str(device))
        move_base(self.base, device, dtype)
        self._move_controls(device, dtype)
        self._loras.drop_weights()
        for adapter in self._adapters.values():
            adapter.conditioner.to(device, dtype)
        return self

    def enable_model_cpu_offload(self: Any, gpu_id: int | None = None, device: Any = None) -> None:
        """Keep one part at a time on the accelerator, the U-Net while it samples. See `pm.model.offload`.

        Args:
            gpu_id: which one.
            device: instead of it; None: `best_device`. Without any there is nothing to do.
        """
        self.offload("model", _chosen(gpu_id, device))

    def enable_sequential_cpu_offload(self: Any, gpu_id: int | None = None, device: Any = None) -> None:
        """Keep one layer at a time on the accelerator: least memory, and slow. Arguments: as above."""
        self.offload("sequential", _chosen(gpu_id, device))

    def disable_offload(self: Any) -> None:
        """End an offload; everything is on the CPU then. `to` moves it."""
        if self._offloader is not None:
            self._offloader.remove()
            self._offloader = self._switch.before = None

    def offload(self: Any, kind: Offload, device: torch.device) -> None:
        """Offload from an accelerator.

        Raises:
            CheckpointError: the model is in training.
        """
        if self._switch is None:
            raise CheckpointError("a model in training cannot be offloaded; load the base by itself")
        self._switch.forget()
        self.disable_offload()
        if kind == "none":
            return
        if device.type == "cpu":
            _log.warning("there is no accelerator to offload from; everything stays on the CPU")
            return
        self._start_offload(Offloader(device, kind))

    def save_memory(self: Any, offload: Offload, vae_tiling: bool, device: torch.device) -> None:
        """What configurations say; `device`: where to compute."""
        self.offload(offload, device)
        if vae_tiling:
            self.enable_vae_tiling()

    def _start_offload(self: Any, offloader: Offloader) -> None:
        self._offloader, self._switch.before = offloader, offloader.rest
        self._loras.drop_weights()
        for encoder in self.base.text_encoders:
            offloader.add(encoder)
        offloader.add(self.base.vae)
        offloader.add(self.base.unet, stays=True)
        for adapter in self._adapters.values():
            self._offload_adapter(adapter)
        for control in self._controls.values():
            offloader.add(control.module)

    def _offload_adapter(self: Any, adapter: Adapter) -> None:
        if self._offloader is not None:
            self._offloader.add(adapter.conditioner)

    def enable_vae_tiling(self, on: bool = True) -> None:
        """Decode pictures in overlapping tiles: less memory at 1024 px and above; edges of tiles can show."""
        self.base.vae.enable_tiling() if on else self.base.vae.disable_tiling()

    def disable_vae_tiling(self) -> None:
        """Decode pictures whole."""
        self.enable_vae_tiling(False)

    def enable_vae_slicing(self) -> None:
        """Decode several pictures one at a time. `PhotoMakerPipeline` does that anyhow; for other uses of its VAE."""
        self.base.vae.enable_slicing()

    def disable_vae_slicing(self) -> None:
        """Undo `enable_vae_slicing`."""
        self.base.vae.disable_slicing()

    def enable_xformers_memory_efficient_attention(self, *_: Any, **__: Any) -> None:
        """Nothing to do: attention runs PyTorch's own memory-efficient kernels."""
        _log.info("attention runs PyTorch's memory-efficient kernels already")

    disable_xformers_memory_efficient_attention = enable_xformers_memory_efficient_attention
    enable_attention_slicing = enable_xformers_memory_efficient_attention
    disable_attention_slicing = enable_xformers_memory_efficient_attention


def _chosen(gpu_id: int | None, device: Any) -> torch.device:
    if device is not None:
        if gpu_id is not None:
            raise RequestError(f"both gpu_id={gpu_id} and device={device} are given; give one of them")
        return pick_device(str(device))
    best = best_device()
    return best if gpu_id is None or best.type == "cpu" else pick_device(f"{best.type}:{gpu_id}")
