"""The studio as people use it: with a mouse, with the keyboard alone, on a phone, in two tabs."""

import io
import re
from pathlib import Path

import pytest
from PIL import Image

from pm.sample.output_file import read_about

expect = pytest.importorskip("playwright.sync_api", reason="no Playwright: install the extra `browser`").expect
EXAMPLES = Path(__file__).resolve().parents[2] / "assets/toon/examples"
PHOTOS = [EXAMPLES / "woman_1.png", EXAMPLES / "woman_2.png"]
PAGES = ("portraits", "data", "training", "evaluation")


def choose_photos(page, files=PHOTOS):
    page.get_by_label("Photos of the person").set_input_files(files)
    expect(page.locator(".photo.looking")).to_have_count(0)


def make(page, count=1):
    page.get_by_label("How many").select_option(str(count))
    page.get_by_role("button", name="Make portraits").click()


def pictures(page):
    return page.locator(".gallery .open")


def plain_wall(folder) -> Path:
    Image.new("RGB", (96, 96), (90, 130, 210)).save(folder / "wall.png")
    return folder / "wall.png"


def axe(page, what=""):
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    said = [f"{each['id']}: {node['html'][:160]}" for each in found for node in each["nodes"]]
    assert said == [], f"{what}: {said}"


def test_from_photos_to_a_picture_that_is_kept(visitor):
    page = visitor()
    choose_photos(page)
    expect(page.get_by_text("2 of 2 photos usable")).to_be_visible()
    expect(page.get_by_alt_text("the person, cut out")).to_have_count(2)
    page.get_by_label("Who is it?").select_option("woman")
    page.get_by_label("Describe the picture").fill("a woman wearing a green sweater, smiling, in front of a pink wall")
    page.get_by_label("Steps", exact=True).evaluate("each => each.value = 12")
    make(page, 2)
    expect(page.get_by_alt_text("preview").first).to_be_visible()
    expect(page.locator(".making-card p").first).to_have_text(re.compile(r"Step \d+ of 12|Finished"))
    expect(pictures(page)).to_have_count(2)
    expect(page.locator(".job")).to_have_count(0)
    page.reload()
    expect(pictures(page)).to_have_count(2)
    pictures(page).first.click()
    expect(page.get_by_role("dialog")).to_contain_text("a woman wearing a green sweater")
    with page.expect_download() as saved:
        page.get_by_role("link", name="Download").click()
    data = Path(saved.value.path()).read_bytes()
    about = read_about(data)
    assert saved.value.suggested_filename == f"portrait-{about['seed']}.png" and "AI-generated" in about["provenance"]
    assert Image.open(io.BytesIO(data)).size == (64, 64) and "woman wearing a green sweater" in about["prompt"]


def test_a_photo_without_a_person_says_why_and_is_not_used(visitor, tmp_path):
    page = visitor()
    choose_photos(page, [plain_wall(tmp_path)])
    expect(page.locator(".photo.refused")).to_contain_text("nobody in front of its background")
    make(page)
    expect(page.locator(".toast")).to_contain_text("None of the photos can be used")
    assert page.locator(".job").count() == 0
    choose_photos(page, PHOTOS[:1])
    expect(page.get_by_text("1 of 2 photos usable")).to_be_visible()
    page.get_by_role("button", name="Remove wall.png").click()
    expect(page.get_by_text("1 of 1 photo usable")).to_be_visible()


def test_cancel_ends_it_here_and_in_the_service(visitor, studio):
    page = visitor()
    page.locator("details", has=page.get_by_text("More settings")).evaluate("each => each.open = true")
    page.get_by_label("Steps", exact=True).fill("100")
    make(page)
    expect(page.locator(".making-card p")).to_have_text(re.compile(r"Step \d+ of 100"))
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".job")).to_have_count(0)
    for _ in range(100):
        if studio.service.in_flight == 0 and len(studio.engine.batcher.sampler) == 0:
            break
        page.wait_for_timeout(100)
    assert studio.service.in_flight == 0 and pictures(page).count() == 0


def test_a_mistake_is_told_in_words(visitor):
    page = visitor()
    page.get_by_label("Describe the picture").fill("x " * 400)
    page.get_by_label("Describe the picture").evaluate(
        "each => { each.removeAttribute('maxlength'); each.value = 'x '.repeat(900); }"
    )
    make(page)
    expect(page.get_by_role("alert")).to_contain_text("at most 1000 are read; shorten it")
    visitor.seen[0].errors[:] = [
        said for said in visitor.seen[0].errors if "400" not in said
    ]  # Chromium logs the status
    page.get_by_role("button", name="Dismiss").click()
    expect(page.locator(".job")).to_have_count(0)


def test_two_tabs_share_the_gallery(visitor):
    page = visitor()
    other = visitor(context=page.context)
    expect(other.get_by_text("Your portraits will appear here")).to_be_visible()
    make(page)
    expect(pictures(page)).to_have_count(1)
    expect(pictures(other)).to_have_count(1)
    other.get_by_role("checkbox", name=re.compile("^Choose")).check()
    other.locator(".chosen").get_by_role("button", name="Delete").click()
    other.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(pictures(page)).to_have_count(0)


def test_on_from_a_picture_other_prompt_grid_and_a_painted_part(visitor):
    page = visitor()
    choose_photos(page, PHOTOS[:1])
    page.get_by_role("spinbutton", name="Seed").fill("7")
    page.get_by_label("A grid: seeds × likeness").check()
    page.get_by_label("Likeness of each column").fill("0.5, 1")
    make(page)
    expect(pictures(page)).to_have_count(2)
    page.get_by_label("A grid: seeds × likeness").uncheck()
    pictures(page).first.click()
    page.get_by_role("button", name="Show its grid").click()
    expect(page.locator("table.grid tbody th")).to_have_text(["seed 7"])
    expect(page.locator("table.grid thead th")).to_have_text(["likeness 0.5", "likeness 1"])
    page.keyboard.press("Escape")
    for box in page.get_by_role("checkbox", name=re.compile("^Choose")).all():
        box.check()
    page.get_by_role("button", name="Compare").click()
    expect(page.locator(".compare figure")).to_have_count(2)
    expect(page.locator(".compare dt")).to_have_text(["Likeness", "Likeness"])
    page.keyboard.press("Escape")
    pictures(page).first.click()
    page.get_by_role("button", name="Same seed, other prompt").click()
    assert page.get_by_role("spinbutton", name="Seed").input_value() == "7"
    expect(page.get_by_text("1 of 1 photo usable")).to_be_visible()
    pictures(page).first.click()
    page.get_by_role("button", name="Change a part").click()
    canvas = page.get_by_role("application")
    canvas.focus()
    page.keyboard.press("Space")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Space")
    page.get_by_role("button", name="Use this part").click()
    expect(page.get_by_text("The painted part is drawn anew.")).to_be_visible()
    make(page)
    expect(pictures(page)).to_have_count(3)
    pictures(page).first.click()
    expect(page.get_by_role("dialog")).to_contain_text("the painted part")


def tab_to(page, name, most=60):
    """Press Tab until something of this name has the focus; every stop on the way can be seen."""
    for _ in range(most):
        page.keyboard.press("Tab")
        here = "document.activeElement"
        said = page.evaluate(
            f"{here}.getAttribute('aria-label') || {here}.labels?.[0]?.textContent || {here}.textContent"
        )
        if re.search(name, said or ""):
            assert page.evaluate(f"getComputedStyle({here}).outlineStyle") != "none", name
            return
    pytest.fail(f"Tab never reached {name}")


def test_with_the_keyboard_alone(visitor):
    page = visitor()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    tab_to(page, "Use the sample photos: woman")
    page.keyboard.press("Enter")
    expect(page.get_by_text("2 of 2 photos usable")).to_be_visible()
    tab_to(page, "Describe the picture")
    page.keyboard.press("Control+A")
    page.keyboard.type("a woman wearing a red hoodie, smiling, in front of a blue wall")
    tab_to(page, "^How many")
    page.keyboard.press("Home")
    tab_to(page, "^Make portraits$")
    page.keyboard.press("Enter")
    expect(pictures(page)).to_have_count(1)
    tab_to(page, "^Open: a woman wearing a red hoodie")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("Open: a woman")


def test_a_phone_shows_everything(visitor):
    page = visitor(viewport={"width": 375, "height": 720}, has_touch=True, is_mobile=True)
    for name in PAGES:
        page.evaluate(f"location.hash = '{name}'")
        page.wait_for_selector(f".page.{name}:not([aria-busy])")
        page.wait_for_timeout(300)
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{name} is {wide} pixels too wide"
    page.evaluate("location.hash = 'portraits'")
    expect(page.get_by_role("button", name="Make portraits")).to_be_in_viewport()


def test_training_is_compared_and_goes_over_the_steps(visitor):
    page = visitor("#training/first")
    expect(page.locator(".chart")).to_have_count(3)
    slider = page.get_by_label("Step of the validation pictures")
    expect(page.get_by_alt_text("validation pictures of first at step 40")).to_be_visible()
    slider.focus()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_alt_text("validation pictures of first at step 26")).to_be_visible()
    page.get_by_label("Compare with another run").select_option("second")
    expect(page.get_by_role("row", name=re.compile("train.lr_lora"))).to_contain_text("0.0003")
    expect(page.locator(".chart path.c1")).to_have_count(3)
    page.get_by_role("link", name=re.compile("^second")).click()
    expect(page.locator(".command")).to_contain_text("photomaker train data=data/x name=second")


def test_data_is_searched_and_evaluation_drilled_down(visitor):
    page = visitor("#data")
    expect(page.locator(".person-tile")).to_have_count(2)
    page.get_by_label("Search people and captions").fill("anna")
    expect(page.locator(".person-tile")).to_have_count(1)
    page.locator(".person-tile").click()
    expect(page.locator(".person-photos li")).to_have_count(3)
    page.keyboard.press("Escape")
    page.get_by_role("tab", name="Left out (2)").click()
    expect(page.get_by_role("tabpanel")).to_contain_text("no face")
    page.get_by_role("link", name="Evaluation").click()
    expect(page.get_by_role("row", name=re.compile("row one")).first).to_be_visible()
    page.locator(".open.small").first.click()
    expect(page.get_by_role("dialog").locator("img").first).to_be_visible()
    page.keyboard.press("Escape")
    with page.context.expect_page() as opened:
        page.get_by_role("button", name="Open the full report").click()
    expect(opened.value.locator("#grid-body tr").first).to_be_visible()  # its script runs, in a sandbox of its own
    assert opened.value.evaluate("self.origin") == "null"
    # Chromium logs that the two rejected photos are not there any more; the page says so in their place.
    visitor.seen[0].errors[:] = [said for said in visitor.seen[0].errors if "404" not in said]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_it(visitor, scheme):
    page = visitor(color_scheme=scheme)
    page.get_by_role("button", name=re.compile("sample photos: man")).click()
    expect(page.get_by_text("2 of 2 photos usable")).to_be_visible()
    for details in page.locator("details").all():
        details.evaluate("each => each.open = true")
    make(page)
    expect(pictures(page)).to_have_count(1)
    axe(page, "portraits")
    pictures(page).first.click()
    axe(page, "a picture")
    page.keyboard.press("Escape")
    for name in PAGES[1:]:
        page.evaluate(f"location.hash = '{name}'")
        page.wait_for_selector(f".page.{name}:not([aria-busy])")
        page.wait_for_timeout(400)
        axe(page, name)


def test_a_service_with_keys_asks_for_one(visitor, studio, tmp_path):
    from serving.http.keys import Key, KeyFile, hash_key, write_keys

    write_keys(tmp_path / "keys.yaml", {"alice": Key(hash_key("secret"), None, None)})
    page = visitor()
    studio.service.keys = KeyFile(tmp_path / "keys.yaml")
    try:
        page.reload()
        page.get_by_role("textbox", name="API key").fill("wrong")
        page.get_by_role("button", name="Use this key").click()
        expect(page.get_by_role("dialog")).to_contain_text("does not know this key")
        page.get_by_role("textbox", name="API key").fill("secret")
        page.get_by_role("button", name="Use this key").click()
        expect(page.get_by_role("button", name="Make portraits")).to_be_visible()
        make(page)
        expect(pictures(page)).to_have_count(1)
    finally:
        studio.service.keys = None
    visitor.seen[0].errors[:] = [
        said for said in visitor.seen[0].errors if "401" not in said
    ]  # Chromium logs the status
