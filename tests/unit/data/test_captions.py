import json

import pytest

from pm.data.captioning.sidecar import SidecarCaptioner
from pm.data.captioning.template import Template, TemplateCaptioner
from pm.data.captioning.words import folder_class_word, singular
from pm.data.records import Photo
from pm.data.stages.captions import caption_photos


def photos_with(root, captions, identity="anna_woman"):
    (root / identity).mkdir(parents=True)
    for i, content in enumerate(captions):
        if content is not None:
            (root / identity / f"{i}.json").write_text(json.dumps(content))
    return [Photo(identity, f"{identity}/{i}.png", sha256=f"{i:064x}") for i in range(len(captions))]


@pytest.mark.parametrize(
    "folder, word",
    [
        ("anna_woman", "woman"),
        ("newton man", "man"),
        ("x-Boys", "boy"),
        ("0042", "person"),
        ("a_b_elf", "elf"),
        ("", "person"),
        ("woman_anna", "woman"),
        ("anna_woman_2023", "woman"),
        ("Anna Woman (2)", "woman"),
        ("women_anna3", "woman"),
        ("anna_businesswoman", "person"),  # no class word
        ("man_and_woman_photos", "person"),  # two of them
        ("girl_of_a_man", "man"),
        ("anna_person", "person"),
    ],
)
def test_class_word_comes_from_the_folder(folder, word):
    assert folder_class_word(folder) == word


def test_which_class_words_the_folders_have_is_said_and_which_folders_have_none():
    template = Template("template", ("a {word}",))
    folders = ["anna_businesswoman", "ben_man", "carl_man", "dora_person", "woman_eve"]
    taken, warned = template.notices(iter(folders))
    assert taken == "class words of the folders' names: person 2, man 2, woman 1"
    assert "'anna_businesswoman': captioned as 'person'" in warned and "for example anna_businesswoman_woman" in warned
    assert len(template.notices(["ben_man"])) == 1
    assert "'0', '1', '2', '3', '4', ...: captioned" in template.notices(str(i) for i in range(9))[1]


def test_templates_are_marked_vary_and_depend_on_the_photo_only():
    captioner = TemplateCaptioner(["a photo of a {word}", "A {word}", "the {word} in a park"])
    photos = [Photo("lea_actress", f"{i}.png", sha256=f"{i * 7919:08x}") for i in range(40)]
    done = caption_photos(photos, captioner)
    assert {p.caption for p in done} == {"a photo of an actress", "An actress", "the actress in a park"}
    assert {p.class_word for p in done} == {"actress"}
    assert caption_photos(photos[::-1], captioner)[::-1] == done


def test_plurals_become_singular_and_nothing_else_changes():
    assert singular("Two Women and men's hats, boys") == "Two Woman and man's hats, boy"
    assert singular("a man in a dress across the glass princess") == "a man in a dress across the glass princess"


def test_the_identitys_most_frequent_class_word_is_marked_where_it_stands(tmp_path):
    captions = [
        "a woman beside a man",
        "women on a bench",
        "a person and a woman",
        "a smiling person",
        "an empty street",
    ]
    photos = photos_with(tmp_path, [{"caption": c} for c in captions])
    done = caption_photos(photos, SidecarCaptioner(tmp_path))
    assert [p.class_word for p in done[:4]] == ["woman", "woman", "woman", "person"]
    assert done[1].caption == "woman on a bench"
    assert done[4].reject.reason == "no_class_word" and done[4].reject.stage == "captions"


def test_an_annotated_class_word_counts_and_rejects_have_reasons(tmp_path):
    contents = [
        {"caption": "a man and a woman", "class_word": "woman"},
        None,
        {"class_word": "woman"},
        {"caption": " "},
    ]
    done = caption_photos(photos_with(tmp_path, contents), SidecarCaptioner(tmp_path))
    assert done[0].class_word == "woman"
    assert [p.reject.reason for p in done[1:]] == ["no_sidecar", "no_caption", "no_caption"]


def test_rejected_photos_stay_as_they_are():
    photo = Photo("a_man", "0.png", sha256="0" * 64).rejected("faces", "no_face")
    assert caption_photos([photo], TemplateCaptioner(["a {word}"])) == [photo]


def test_a_text_file_beside_the_photo_is_its_caption(tmp_path):
    photos = photos_with(tmp_path, [{"caption": "a man"}, None, {"faces": []}, None, None])
    for number, text in (
        (0, b"a dog"),
        (1, b"\xef\xbb\xbfTwo  women\n in hats\n"),
        (2, b"a woman"),
        (3, b" \n"),
        (4, None),
    ):
        if text is not None:
            (tmp_path / "anna_woman" / f"{number}.txt").write_bytes(text)
    done = caption_photos(photos, SidecarCaptioner(tmp_path))
    assert [p.caption for p in done[:3]] == ["a man", "Two woman in hats", "a woman"]  # JSON goes before text
    assert [p.class_rule for p in done[:3]] == ["only", "group", "group"]
    assert [p.reject.reason for p in done[3:]] == ["no_caption", "no_sidecar"]
    (tmp_path / "anna_woman" / "4.txt").write_bytes(b"\xff\xfe a woman \x00")
    assert caption_photos(photos[4:], SidecarCaptioner(tmp_path))[0].class_word == "woman"


def test_sidecars_of_any_size_cost_no_memory(tmp_path):
    photos = photos_with(tmp_path, [None, None, {"caption": "a man " * 10_000}])
    for name in ("0.txt", "1.json"):
        with (tmp_path / "anna_woman" / name).open("wb") as file:
            file.truncate(10**10)  # sparse
    done = caption_photos(photos, SidecarCaptioner(tmp_path))
    assert [p.reject.reason for p in done] == ["sidecar_too_large", "sidecar_too_large", "caption_too_long"]


def test_words_inside_other_words_are_no_class_words(tmp_path):
    photos = photos_with(tmp_path, [{"caption": c} for c in ("a man-made lake", "the woman's hat", "a king")])
    done = caption_photos(photos, SidecarCaptioner(tmp_path))
    assert [p.reject and p.reject.reason for p in done] == ["no_class_word", "no_class_word", None]
