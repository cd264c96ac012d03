"""Rows that keep deep features, beside rows that do not, are what they are alone; and what they save."""

from dataclasses import replace

import numpy as np
from support.sampling import worst, write_adapter

from pm.sample.pipeline import PhotoMakerPipeline
from pm.sample.presets import preset
from pm.sample.request import Request, request_of


def test_rows_that_keep_deep_features_depend_on_themselves_alone_and_save_work(tiny_base, tmp_path, photos):
    pipeline = PhotoMakerPipeline.from_pretrained(tiny_base)
    for name, seed in (("one", 1), ("two", 2)):
        file = write_adapter(tiny_base, tmp_path / f"{name}.safetensors", seed=seed)
        pipeline.load_photomaker_adapter(file, adapter_name=name)
    own = {"steps": 7, "adapter": "one", "merge_step": 0}
    plain = Request("a man img in a red shirt", photos[:1], **own)
    requests = [
        plain,
        replace(plain, seed=1, cache_interval=3),  # whole at steps 0, 3, 6
        replace(plain, seed=2, cache_interval=2, merge_step=3),  # 0, 2, 3 (another text), 5
        replace(plain, seed=3, cache_interval=3, guidance_start=3 / 7, adapter="two"),  # 0, 3 (a second half), 6
        replace(plain, seed=4, cache_interval=7, guidance=1.0),  # 0
        request_of(preset("fast"), plain.prompt, id_images=photos[:2], adapter="two", seed=5),
    ]
    lines: list[int] = []
    pipeline.base.unet.mid_block.register_forward_pre_hook(lambda module, args: lines.append(len(args[0])))

    def count(request: Request) -> int:
        lines.clear()
        alone.append(pipeline.generate([request])[0])
        return sum(lines)

    alone = []
    assert [count(request) for request in requests[:5]] == [14, 6, 8, 1 + 2 + 2, 1]
    fast = count(requests[5])
    assert fast < 0.4 * 2 * 25
    for ours, expected in zip(pipeline.generate(requests), alone, strict=True):
        assert worst(ours, expected) <= 1
    # It is an approximation: near the picture of all steps, and not the same.
    whole = pipeline.generate([replace(requests[1], cache_interval=1)])[0]
    difference = np.abs(np.asarray(whole, dtype=int) - np.asarray(alone[1], dtype=int))
    assert 0 < difference.mean() < 20
