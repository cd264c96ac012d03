"""Pictures: against diffusers with the same noise, compiled and not, one and eight, mixed and one by one."""

import time
from typing import Any

import torch

from benchmarks.fullsize.models import PLAIN, PROMPT, NotAvailable, id_embeds
from benchmarks.gpu.rig import Rig, Row


def rows(rig: Rig) -> dict[str, Row]:
    counts = (1, 8) if rig.full else (1, 2)
    found: dict[str, Row] = {f"against diffusers, {n}": lambda n=n: _against_diffusers(rig, n) for n in counts}
    found["mixed together"] = lambda: _mixed(rig, max(counts))
    for how in rig.compiled:
        found |= {f"{n} known identity, compile={how}": lambda n=n, how=how: _known(rig, n, how) for n in counts}
    return found


def requests(pipeline: Any, rig: Rig, n: int, **over: Any) -> list[Any]:
    """The same person `n` times, known already: only the U-Net and the VAE run."""
    from pm.sample.request import Request

    common: dict[str, Any] = {"steps": rig.steps, "guidance": 5.0, "merge_step": 0} | over
    known = id_embeds(pipeline, 4)
    return [Request(PROMPT, id_embeds=known, seed=i, **common) for i in range(n)]


def _against_diffusers(rig: Rig, n: int) -> dict[str, Any]:
    try:
        from diffusers import DDIMScheduler, StableDiffusionXLPipeline
    except ImportError as error:
        raise NotAvailable(f"diffusers: {error}") from error
    from pm.sample.request import BASE, Request

    row: dict[str, Any] = {}
    ours = rig.pipeline()
    parts = {"vae": ours.base.vae, "unet": ours.base.unet}
    parts |= dict(zip(("text_encoder", "text_encoder_2"), ours.base.text_encoders, strict=True))
    parts |= dict(zip(("tokenizer", "tokenizer_2"), ours.base.tokenizers, strict=True))
    theirs = StableDiffusionXLPipeline(  # the very same weights
        **parts, scheduler=DDIMScheduler.from_config(ours.base.scheduler_config), add_watermarker=False
    )
    theirs.set_progress_bar_config(disable=True)
    latent = (4, ours.base.latent_size, ours.base.latent_size)
    noise = [torch.randn(latent, generator=torch.Generator().manual_seed(i)) for i in range(n)]
    asked = [Request(PLAIN, adapter=BASE, steps=rig.steps, guidance=5.0, seed=i) for i in range(n)]
    common = {"num_inference_steps": rig.steps, "guidance_scale": 5.0, "num_images_per_prompt": n}

    def plain(output: str = "pil") -> Any:
        ours._switch.use(None)  # the base's own matrices
        latents = torch.stack(noise).to(rig.device, rig.dtype)
        return theirs(PLAIN, latents=latents, output_type=output, **common).images

    expected = plain("latent").float().cpu()
    made = torch.stack(ours.latents(asked, batch_size=n)).float().cpu()
    row["relative_difference"] = float((made - expected).norm() / expected.norm())
    known = requests(ours, rig, n)
    times: dict[str, list[float]] = {"diffusers_s": [], "base_s": [], "identity_s": []}
    calls = {"diffusers_s": plain, "base_s": lambda: ours.generate(asked, batch_size=n)}
    calls["identity_s"] = lambda: ours.generate(known, batch_size=n)
    with rig.peak(row):
        for turn in range(rig.repeats + 1):  # in turns: what disturbs the machine disturbs all alike
            for name, call in calls.items():
                seconds = rig.seconds(call, 1, warm=False)
                times[name] += [seconds] if turn else []
    medians = {name: sorted(values)[len(values) // 2] for name, values in times.items()}
    return row | medians | {"speed_up": medians["diffusers_s"] / medians["identity_s"]}


def _known(rig: Rig, n: int, how: str) -> dict[str, Any]:
    pipeline, row = rig.pipeline(how), {}
    asked = requests(pipeline, rig, n)
    with rig.peak(row):
        start = time.perf_counter()
        pipeline.generate(asked, batch_size=n)
        rig.wait()
        row["first_s"] = time.perf_counter() - start
        row["all_s"] = rig.seconds(lambda: pipeline.generate(asked, batch_size=n), warm=False)
    return row | {"s_per_image": row["all_s"] / n, "steps": rig.steps}


def _mixed(rig: Rig, n: int) -> dict[str, Any]:
    """Rows that differ in photos, steps, guidance and where the identity begins, together and one by one."""
    from dataclasses import replace

    pipeline = rig.pipeline()
    same = requests(pipeline, rig, n)
    asked = [
        replace(r, id_embeds=id_embeds(pipeline, 1 + i % 4, i), steps=rig.steps - i % 3, guidance=3.0 + i % 4)
        for i, r in enumerate(same)
    ]
    together = rig.seconds(lambda: pipeline.generate(asked, batch_size=n))
    alone = rig.seconds(lambda: [pipeline.generate([each]) for each in asked])
    return {"together_s": together, "one_by_one_s": alone, "speed_up": alone / together, "images": n}
