"""diffusers' way to train a LoRA on SDXL, one step at a time: what its example script does with each batch.

After examples/text_to_image/train_text_to_image_lora_sdxl.py of diffusers (its order of operations, its precisions and
its defaults; no code of it): the U-Net and text encoders in bfloat16, the VAE in float32, the LoRA in float32,
autocast, PEFT's layers on to_q, to_k, to_v and to_out.0. As shipped, each step encodes its pictures and captions;
`cached` skips both, as our datasets do.
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class TheirTraining:
    """A U-Net with PEFT's LoRA, and what a step needs.

    Args:
        base: folder in the diffusers layout.
        device: where.
        rank: of the LoRA.
        precision: fp32 or bf16, of everything frozen but the VAE.
        cached: whether latents and text features come ready.
        checkpointing: recompute activations.
    """

    def __init__(
        self, base: Path, device: str, rank: int, precision: str, *, cached: bool, checkpointing: bool
    ) -> None:
        from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
        from peft import LoraConfig
        from transformers import CLIPTextModel, CLIPTextModelWithProjection

        self.device, self.cached = torch.device(device), cached
        self.dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        load = {"torch_dtype": self.dtype}
        self.unet: Any = UNet2DConditionModel.from_pretrained(base / "unet", **load).to(device)
        self.unet.requires_grad_(False).train()
        names = ["to_k", "to_q", "to_v", "to_out.0"]
        self.unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=names))
        self.trained = [p for p in self.unet.parameters() if p.requires_grad]
        for parameter in self.trained:
            parameter.data = parameter.data.float()
        if checkpointing:
            self.unet.enable_gradient_checkpointing()
        self.encoders: list[Any] = []
        self.vae: Any = None
        if not cached:
            kinds = {"text_encoder": CLIPTextModel, "text_encoder_2": CLIPTextModelWithProjection}
            for name, kind in kinds.items():
                encoder: Any = kind.from_pretrained(base / name, dtype=self.dtype)
                self.encoders.append(encoder.to(device).requires_grad_(False))
            self.vae = AutoencoderKL.from_pretrained(base / "vae", torch_dtype=torch.float32).to(device)
            self.vae.requires_grad_(False)
        self.noise = DDPMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000
        )
        self.optimizer = torch.optim.AdamW(self.trained, lr=1e-4, weight_decay=1e-2)

    def batch(self, micro: int, resolution: int, width: int, pooled: int, vocabulary: int) -> dict[str, Tensor]:
        """Random pictures and captions, or what the encoders would have made of them, on the device."""
        g = torch.Generator().manual_seed(0)
        found = {"time_ids": torch.tensor([[resolution, resolution, 0, 0, resolution, resolution]] * micro)}
        if self.cached:
            found |= {
                "latents": torch.randn(micro, 4, resolution // 8, resolution // 8, generator=g),
                "embeds": torch.randn(micro, 77, width, generator=g).to(self.dtype),
                "pooled": torch.randn(micro, pooled, generator=g).to(self.dtype),
            }
        else:
            found["pixels"] = torch.rand(micro, 3, resolution, resolution, generator=g) * 2 - 1
            found["ids"] = torch.randint(0, vocabulary - 1, (micro, 77), generator=g)
        return {name: value.to(self.device) for name, value in found.items()}

    def step(self, batch: dict[str, Tensor]) -> Tensor:
        """Encode if need be, noise, predict, backward, clip, update; the loss, detached."""
        latents, embeds, pooled = (batch.get(name) for name in ("latents", "embeds", "pooled"))
        if not self.cached:
            latents, embeds, pooled = self._encode(batch)
        noise = torch.randn_like(latents)
        times = torch.randint(0, 1000, (len(latents),), device=self.device)
        noisy = self.noise.add_noise(latents, noise, times).to(self.dtype)
        added = {"time_ids": batch["time_ids"].to(self.dtype), "text_embeds": pooled}
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype is torch.bfloat16):
            output = self.unet(noisy, times, embeds, added_cond_kwargs=added, return_dict=False)[0]
        loss = F.mse_loss(output.float(), noise.float())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()

    @torch.no_grad()
    def _encode(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        latents = self.vae.encode(batch["pixels"].float()).latent_dist.sample() * self.vae.config.scaling_factor
        outputs = [encoder(batch["ids"], output_hidden_states=True) for encoder in self.encoders]
        embeds = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
        return latents, embeds, outputs[-1].text_embeds
