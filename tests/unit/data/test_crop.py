import numpy as np

from pm.data.records import Face, Photo
from pm.data.stages.crop import crop_photos
from pm.photo.crop import CropConfig
from pm.photo.pixels import decode_png


def test_crop_holds_the_photos_own_pixels(tmp_path):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    photo = Photo("x", "a.png", width=90, height=60, faces=(Face((60.0, 5.0, 80.0, 25.0), (), 1.0, ()),))
    config = CropConfig(face_share=0.25, working_side=512, max_upscale=4)
    done = crop_photos([photo], tmp_path, config, least_side=32)[0]
    x0, y0, x1, y1 = (int(v) for v in done.crop_box)
    assert x1 - x0 == 40
    assert np.array_equal(np.asarray(decode_png(done.crop, "RGB")), pixels[y0:y1, x0:x1])
    assert decode_png(crop_photos([photo], tmp_path, config, least_side=64)[0].crop, "RGB").size == (64, 64)
    small = CropConfig(face_share=0.25, working_side=16, max_upscale=4)
    assert decode_png(crop_photos([photo], tmp_path, small, least_side=8)[0].crop, "RGB").size == (16, 16)


def test_a_face_that_no_square_of_the_photo_can_show_is_rejected(tmp_path):
    photo = Photo("x", "a.png", width=1000, height=20, faces=(Face((0.0, 0.0, 600.0, 2.0), (), 1.0, ()),))
    done = crop_photos([photo], tmp_path, CropConfig(face_share=0.2, working_side=64, max_upscale=4), least_side=8)[0]
    assert done.reject.reason == "face_share" and done.reject.value < done.reject.threshold == 0.2


def test_crops_are_enlarged_up_to_the_limit_and_rejected_beyond(tmp_path):
    from PIL import Image

    Image.new("RGB", (200, 200), "grey").save(tmp_path / "a.png")
    photo = Photo("x", "a.png", width=200, height=200, faces=(Face((90.0, 90.0, 110.0, 110.0), (), 1.0, ()),))
    config = CropConfig(face_share=0.25, working_side=512, max_upscale=2)  # a crop of 40 pixels
    assert decode_png(crop_photos([photo], tmp_path, config, least_side=80)[0].crop, "RGB").size == (80, 80)
    done = crop_photos([photo], tmp_path, config, least_side=81)[0]
    assert (done.reject.reason, done.reject.value, done.reject.threshold) == ("upscaled", 81 / 40, 2)
