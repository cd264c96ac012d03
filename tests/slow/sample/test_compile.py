"""A compiled U-Net: nothing is compiled after the warm-up, and pictures are those of the plain one."""

from dataclasses import replace

import pytest
import torch
from support.sampling import worst, write_adapter

from pm.model.compiled import compile_unet
from pm.sample.pipeline import PhotoMakerPipeline
from pm.sample.request import Request


def test_the_warm_up_makes_all_code_that_mixed_requests_need(tiny_base, tmp_path, photos):
    pipeline = PhotoMakerPipeline.from_pretrained(tiny_base)
    for name, seed in (("one", 1), ("two", 2)):
        file = write_adapter(tiny_base, tmp_path / f"{name}.safetensors", seed=seed)
        pipeline.load_photomaker_adapter(file, adapter_name=name)
    request = Request("a man img in a red shirt", photos[:1], steps=3, adapter="one")
    requests = [
        request,
        replace(request, id_images=photos[:3], seed=1),
        replace(request, adapter="two", seed=2, guidance=1.0),
        replace(request, adapter="base", prompt="a man", id_images=[], seed=3),
        replace(request, width=64, seed=4),
    ]
    plain = pipeline.generate(requests)
    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    unet = pipeline.base.unet
    compile_unet(unet, "regional", backend=backend)
    try:
        pipeline.warm_up()
        made = len(compiled)
        assert made
        found = pipeline.generate(requests)
        assert len(compiled) == made
        assert max(map(worst, found, plain)) <= 1
    finally:
        torch.compiler.reset()


def test_a_model_that_does_not_say_what_it_repeats_is_refused():
    from pm.errors import ConfigError

    with pytest.raises(ConfigError, match="use compile=full"):
        compile_unet(torch.nn.Linear(1, 1), "regional")
