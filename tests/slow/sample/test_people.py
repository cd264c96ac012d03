"""Several people in one picture, each with photos and a place of their own, beside rows of every kind."""

import dataclasses

import pytest
import torch
from PIL import Image
from support.sampling import worst, write_ip_adapter, write_v2

from pm.errors import RequestError
from pm.sample import Person, PhotoMakerPipeline, Request

PAIR = "a man img in a red shirt and a woman img2 in a hat"
STEPS = 2
HALVES = ("left", "right")


@pytest.fixture(scope="module")
def pipe(tiny_base, adapter_files, tmp_path_factory) -> PhotoMakerPipeline:
    folder = tmp_path_factory.mktemp("kinds")
    pipe = PhotoMakerPipeline.from_pretrained(tiny_base, merge_fraction=0.0)
    files = adapter_files | {
        "v2": write_v2(tiny_base, folder / "v2.safetensors"),
        "ip": write_ip_adapter(tiny_base, folder / "ip.safetensors"),
    }
    for name, file in files.items():
        pipe.load_photomaker_adapter(file, adapter_name=name)
    return pipe


def people(photos, boxes=HALVES, split=2, adapter="one", **fields) -> list[Person]:
    parts = (photos[:split], photos[split : split + 1], photos[split + 1 :])
    faces = [torch.full((len(part), 34), float(i + 1)) if adapter == "v2" else None for i, part in enumerate(parts)]
    return [Person(p, face_embeds=f, box=b, **fields) for p, f, b in zip(parts, faces, boxes, strict=False)]


def pair(photos, adapter="one", boxes=HALVES, prompt=PAIR, **fields) -> Request:
    fields = {"seed": 1, "steps": STEPS, "width": 64, "height": 32} | fields
    return Request(prompt, people=people(photos, boxes, adapter=adapter), adapter=adapter, **fields)


@pytest.mark.parametrize("adapter", ["one", "two", "v2"])
def test_tokens_belong_to_their_person_and_act_at_their_place(pipe, photos, adapter):
    row, other = (pipe.prepare([pair(p, adapter)])[0].conditioning for p in (photos, [*photos[:2], photos[3]]))
    regions = row.regions
    each = 2 if adapter == "v2" else 1
    owner, plain = regions.owner[0].tolist(), regions.text_owner[0].tolist()
    assert owner.count(1) == 2 * each and owner.count(2) == each and plain.count(1) == plain.count(2) == 1
    # Tokens of the second person alone change with the second person's photo.
    changed = (row.embeds != other.embeds).any(-1)[0]
    assert changed.nonzero().flatten().tolist() == [i for i, of in enumerate(owner) if of == 2]
    assert regions.maps.shape == (1, 2, 8, 16) and not (regions.maps[0, 0] & regions.maps[0, 1]).any()
    assert regions.maps[0, 0, :, :8].all() and regions.maps[0, 1, :, 8:].all()


def test_a_place_that_is_the_whole_picture_changes_nothing(pipe, photos):
    one = Request("a man img in a red shirt", photos[:2], adapter="one", steps=STEPS, seed=3)
    whole = dataclasses.replace(one, id_images=(), people=[Person(photos[:2], box=(0, 0, 1, 1))])
    anywhere = dataclasses.replace(whole, people=[Person(photos[:2])])
    plain, boxed, same = pipe.latents([one, whole, anywhere])
    assert torch.equal(plain, same)
    torch.testing.assert_close(boxed, plain, atol=2e-5, rtol=1e-4)


def test_people_change_the_picture_where_they_are(pipe, photos):
    """A person's photos, or places exchanged, make another picture; the places are seen, too, before the merge."""
    base, other, exchanged, text, swapped = pipe.latents(
        [
            pair(photos),
            pair([*photos[:2], photos[3]]),
            pair(photos, boxes=HALVES[::-1]),
            pair(photos, merge_step=STEPS),
            pair(photos, boxes=HALVES[::-1], merge_step=STEPS),
        ]
    )
    for made in (other, exchanged, text):
        assert (base - made).abs().max() > 1e-3
    assert (text - swapped).abs().max() > 1e-4


def test_rows_of_several_people_beside_rows_of_every_kind_equal_each_alone(pipe, photos):
    region = [Image.new("L", (64, 32)), Image.new("L", (64, 32))]
    for mask, x in zip(region, (0, 32), strict=True):
        mask.paste(255, (x, 0, x + 32, 32))
    wide = {"width": 64, "height": 32, "steps": STEPS}
    masked = [Person(photos[:1], region=region[0]), Person(photos[1:3], region=region[1], weights=[1.0, 0.5])]
    requests = [
        pair(photos),
        pair(photos, "two", seed=2, guidance=1.0),
        pair(photos, boxes=(None, None), seed=3),
        Request(PAIR, people=masked, adapter="one", seed=4, **wide),
        Request("a man img", photos[:3], adapter="one", seed=5, **wide),
        Request("a man", photos[:2], adapter="ip", seed=6, **wide),
        pair(photos, "v2", seed=8, merge_step=1),
        Request(
            "a boy img3, a man img, a woman img2",
            people=people(photos, ("left", "middle", "right"), split=1),
            adapter="one",
            seed=9,
            **wide,
        ),
    ]
    together = pipe.latents(requests, batch_size=len(requests))
    for made, request in zip(together, requests, strict=True):
        torch.testing.assert_close(made, pipe.latents([request])[0], atol=5e-5, rtol=1e-4)
    assert worst(pipe.decode(together[0]), pipe.decode(together[2])) > 0


def test_people_are_found_in_steps_that_see_the_text(pipe, photos):
    sampler = pipe.sampler()
    key = sampler.add(pipe.prepare([pair(photos, boxes=(None, None), steps=5)])[0])
    assert sampler.row(key).merge_step == 1 and sampler.row(key).find_people
    sampler.step()
    row = sampler.row(key)
    maps = row.conditioning.regions.maps[0]
    assert not row.find_people and maps.any(0).all() and not (maps[0] & maps[1]).any() and maps.flatten(1).any(1).all()
    late = pipe.prepare([pair(photos, boxes=(None, None), steps=5, merge_step=3)])[0]
    assert late.merge_step == 3


def test_photos_can_be_given_as_their_embeddings(pipe, photos):
    known = [pipe.embed(pipe.references(part, "one", "none"), "one") for part in (photos[:2], photos[2:3])]
    embedded = dataclasses.replace(
        pair(photos), people=[Person(id_embeds=e, box=b) for e, b in zip(known, HALVES, strict=True)]
    )
    torch.testing.assert_close(pipe.latents([embedded])[0], pipe.latents([pair(photos)])[0])


def test_auto_gives_each_person_the_next_class_word(pipe, photos):
    auto = pair(photos, prompt="a man in a red shirt and a woman in a hat", trigger="auto")
    assert torch.equal(pipe.latents([auto])[0], pipe.latents([pair(photos)])[0])
    assert pipe.notes(auto) == [f"the prompt has no trigger word; it was read as {PAIR!r}"]


@pytest.mark.parametrize("adapter", ["one", "v2"])
def test_the_published_call_takes_people(pipe, photos, adapter, tmp_path):
    """Photos as files are prepared; two images of the prompt."""
    files = [tmp_path / f"{i}.png" for i in range(3)]
    for file, each in zip(files, photos, strict=False):
        each.save(file)
    asked = people(files, adapter=adapter)
    how = {"num_inference_steps": STEPS, "start_merge_step": -1, "width": 64, "height": 32, "adapter": adapter}
    made = pipe(PAIR, people=asked, seed=1, num_images_per_prompt=2, preprocess="none", output_type="latent", **how)
    expected = pipe.latents([pair(photos, adapter, seed=seed) for seed in (1, 2)])
    torch.testing.assert_close(made.images, torch.stack(expected), atol=5e-5, rtol=1e-4)
    with pytest.raises(RequestError, match="people must be a list of Person"):
        pipe(PAIR, people=[files], **how)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"people": ()}, "has 'img2', but there are photos of one person; give people="),
        ({"prompt": "a man img, a woman img3"}, "has 'img3' but no 'img2'; number the people"),
        ({"prompt": "a man img, a woman"}, "no place for person 2 of 2; write 'img2'"),
        ({"prompt": "a man img, a woman img2, a boy img3"}, "has 'img3', but there are photos of 2 people"),
        ({"prompt": "a man img2, a woman img0"}, "people are counted from 1"),
        ({"prompt": "a man img, a woman img2, the girl img2"}, "'img2' 2 times, after woman and girl"),
        ({"boxes": ("left", None)}, "person 2 has no place, and others have"),
        ({"boxes": ((0, 0, 40, 32), (32, 0, 64, 32))}, "person 1 and person 2 overlap by 256 of 1280 pixels"),
        ({"boxes": ((0, 0, 32, 32), (32, 0, 72, 32))}, r"box=\[32, 0, 72, 32\] of person 2 reaches beyond the picture"),
        ({"boxes": ((0, 0, 32, 32), (64, 0, 32, 32))}, "of person 2 is empty"),
        ({"boxes": ("left", "there")}, "box='there' of person 2 is not one of left, middle"),
        ({"boxes": ("left", (40, 0, 41, 1))}, "place of person 2 is smaller than 4 pixels"),
        ({"boxes": ("left", (1, 2, 3))}, "must be left, top, right, bottom"),
        ({"region": Image.new("L", (64, 64), 255)}, "region of person 1 has 64 x 64 pixels, the picture 64 x 32"),
        ({"region": Image.new("L", (64, 32))}, "region of person 1 is black"),
        ({"id_images": True}, "id_images given beside people"),
        ({"count": 5}, "person 1: 5 ID images given; this adapter takes 1 to 4"),
        ({"weights": [1.0]}, "person 1: 1 weights given for 2 ID images"),
        ({"adapter": "ip"}, "people= is for adapters with a trigger word"),
        ({"adapter": "base"}, "person 1: 2 ID images given but no adapter"),
        ({"class_word": "girl"}, "class_word='girl' is for one person"),
        ({"image": Image.new("RGB", (64, 32)), "strength": 0.5, "boxes": (None, None)}, "no step sees the text alone"),
    ],
)
def test_what_cannot_be_is_refused(pipe, photos, changes, message):
    changes = dict(changes)
    asked = people(photos, changes.pop("boxes", HALVES))
    if "region" in changes:
        asked = [dataclasses.replace(each, box=None, region=changes["region"]) for each in asked]
        del changes["region"]
    if "count" in changes:
        asked[0] = dataclasses.replace(asked[0], id_images=[photos[0]] * changes.pop("count"))
    if "weights" in changes:
        asked[0] = dataclasses.replace(asked[0], weights=changes.pop("weights"))
    if changes.get("id_images"):
        changes["id_images"] = photos[:1]
    request = dataclasses.replace(pair(photos), **{"people": asked} | changes)
    if not request.people:
        request = dataclasses.replace(request, id_images=photos[:1])
    with pytest.raises(RequestError, match=message):
        pipe.check(request)
