"""The explorer's page in a real Chromium: `make test-browser`."""

import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import urllib.parse

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

from helpers.explored import SIZE, explored_image, explored_model, explorer_of
from helpers.explorer_server import Client, Server, encoded

pytestmark = pytest.mark.browser
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
GRID = (7, 9)
WAIT = 60_000  # milliseconds, as the first requests compile


@pytest.fixture(scope="module")
def browser():
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    assert program, "install Chromium, or name it in the environment variable CHROMIUM"
    with sync_playwright() as playwright:
        # Chromium refuses to sandbox itself as root, the user in CI containers.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    directory = tmp_path_factory.mktemp("images")
    for number in range(2):
        image = encoded(explored_image(number), format="PNG")
        (directory / f"tiles{number}.png").write_bytes(image)
    return sorted(directory.iterdir())


@pytest.fixture(scope="module")
def server(files):
    server = Server(explorer_of(explored_model(), files))
    yield server
    server.stop()


@pytest.fixture
def open_page(browser):
    """Open an address; errors that the page logs, and requests to other hosts, are faults."""
    faults, contexts = [], []

    def open_at(server, width=1300, height=1000, refusals=False, **state):
        context = browser.new_context(
            viewport={"width": width, "height": height}, accept_downloads=True
        )
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        if not refusals:
            page.on(
                "console",
                lambda m: faults.append(f"{m.text} {m.location}") if m.type == "error" else None,
            )
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith((server.address, "blob:"))
                else faults.append(request.url)
            ),
        )
        page.goto(f"{server.address}/#{urllib.parse.urlencode(state)}")
        expect(page.locator("#likely tbody tr").first).to_be_visible(timeout=WAIT)
        expect(page.locator("#busy")).to_be_empty(timeout=WAIT)
        return page

    yield open_at
    for context in contexts:
        context.close()
    assert faults == []


def place_of(page, row, column, grid=GRID, align_corners=True):
    """Coordinates of a feature pixel, or of a place between some, within the canvas."""
    box = page.locator("#view").bounding_box()
    height, width = (page.locator("#view").get_attribute(side) for side in ("height", "width"))
    scale = min(box["width"] / int(width), box["height"] / int(height))
    shown = scale * np.array([int(height), int(width)])
    margin = (np.array([box["height"], box["width"]]) - shown) / 2
    unit = shown / SIZE  # the size of an image pixel
    if align_corners:
        places = (np.array(SIZE) - 1) / (np.array(grid) - 1) * (row, column) + 0.5
    else:
        places = np.array(SIZE) / grid * (row + 0.5, column + 0.5)
    y, x = margin + unit * places
    return {"x": float(x), "y": float(y)}


def painted(page):
    """The pixels of the view."""
    return page.locator("#view").evaluate("canvas => canvas.toDataURL()")


def test_the_first_image_is_there(server, open_page):
    page = open_page(server, pixel=34)
    expect(page).to_have_title("ranet explore a model")
    expect(page.locator("#image")).to_have_value("tiles0.png")
    assert page.locator("#maps canvas:visible").count() == 5
    expect(page.locator("#caption")).to_contain_text("of 8 or more feature-map pixels")
    expect(page.locator("#error")).to_be_hidden()


def test_pointing_shows_what_the_program_says_of_the_pixel(server, open_page):
    page = open_page(server)
    page.locator("#view").click(position=place_of(page, 5, 4))
    expect(page.locator("#row")).to_have_value("5")
    expect(page.locator("#column")).to_have_value("4")
    said = server.json("pixel", image="tiles0.png", pixel=5 * 9 + 4, other=2 * 9 + 7)
    best = server.json("network")["classes"][said["fine"][0]["class"]]["name"]
    expect(page.locator("#readout")).to_contain_text(f"Row 5, column 4: {best}")
    expect(page.locator("#readout")).to_contain_text(f"J {said['J']:.3f}")
    rows = page.locator("#places tbody tr")
    assert rows.count() == len(said["representatives"])
    for number, each in enumerate(said["representatives"]):
        expect(rows.nth(number)).to_contain_text(f"{each['row']}, {each['column']}")
    assert page.locator("#sources tbody tr").count() == len(said["representative"]["sources"])

    page.locator("#view").click(position=place_of(page, 2, 7), modifiers=["Shift"])
    expect(page.locator("#segment-caption")).to_contain_text(f"D = {said['D'][2 * 9 + 7]:.3f}")
    expect(page.locator("#maps button").nth(1)).to_contain_text(f"{said['E'][2 * 9 + 7]:.3f}")
    expect(page.locator("#row")).to_have_value("5")


def test_another_representative_is_shown(server, open_page):
    page = open_page(server, pixel=34)
    said = server.json("pixel", image="tiles0.png", pixel=34)
    other = next(
        each["place"]
        for each in said["representatives"]
        if each["place"] != said["representative"]["place"]
    )
    before = page.locator("#maps canvas").nth(4).evaluate("canvas => canvas.toDataURL()")
    page.get_by_role("radio", name=f"Representative {other + 1}").click()
    expect(page.get_by_role("radio", name=f"Representative {other + 1}")).to_be_checked()
    expect(page).to_have_url(re.compile(f"place={other}"))
    after = page.locator("#maps canvas").nth(4).evaluate("canvas => canvas.toDataURL()")
    assert after != before


def test_sliders_make_the_regions_anew(server, open_page):
    page = open_page(server, pixel=34)
    page.locator("#threshold").fill("0.3")
    said = server.json("regions", image="tiles0.png", threshold=0.3)
    expect(page.locator("#caption")).to_have_text(said["caption"])
    expect(page.locator("#sources")).to_be_hidden()  # one region is all there is
    page.get_by_role("button", name="As trained").click()
    expect(page.locator("#threshold")).to_have_value("0.8")
    expect(page.locator("#sources tbody tr")).to_have_count(3)
    page.locator("#representatives").fill("1")
    expect(page.locator("#places tbody tr")).to_have_count(1)
    page.locator("#regions").fill("2")
    expect(page.locator("#sources tbody tr")).to_have_count(1)


def test_layers_classes_and_opacity_change_the_view(server, open_page):
    page = open_page(server, pixel=34)
    seen = {painted(page)}
    for name in ("Photograph", "Fine", "Coarse", "Boundary", "D", "E", "F", "Gathered"):
        page.get_by_role("radio", name=name, exact=True).check()
        seen.add(painted(page))
    assert len(seen) == 9
    page.get_by_role("radio", name="Fine", exact=True).check()
    shown = painted(page)
    page.get_by_role("checkbox", name="road").uncheck()
    assert painted(page) != shown
    page.locator("#opacity").fill("0.1")
    page.get_by_role("checkbox", name="Contours of regions").uncheck()
    page.get_by_role("checkbox", name="Pixels and representatives").uncheck()
    faint = painted(page)
    page.locator("#opacity").fill("0")
    assert len({shown, faint, painted(page)}) == 3


def test_the_keyboard_reaches_every_pixel_and_the_next_image(server, open_page):
    page = open_page(server, pixel=0)
    page.locator("#view").focus()
    for key in ("ArrowRight", "ArrowDown", "ArrowDown"):
        page.keyboard.press(key)
    expect(page.locator("#row")).to_have_value("2")
    expect(page.locator("#column")).to_have_value("1")
    page.keyboard.press("PageDown")
    expect(page.locator("#row")).to_have_value("6")
    page.keyboard.press("Shift+ArrowUp")
    expect(page.locator("#other-row")).to_have_value("5")
    page.locator("#column").fill("8")
    page.locator("#column").press("Enter")
    expect(page.locator("#readout")).to_contain_text("Row 6, column 8")
    page.get_by_role("button", name="Next image").press("Enter")
    expect(page.locator("#image")).to_have_value("tiles1.png")


def test_a_link_restores_what_is_seen(server, open_page):
    page = open_page(server, image="tiles1.png", layer="E", pixel=20, other=41, threshold=0.6)
    expect(page.locator("#image")).to_have_value("tiles1.png")
    expect(page.get_by_role("radio", name="E", exact=True)).to_be_checked()
    assert [page.locator(f"#{i}").input_value() for i in ("row", "column")] == ["2", "2"]
    assert [page.locator(f"#other-{i}").input_value() for i in ("row", "column")] == ["4", "5"]
    again = page.context.new_page()
    again.goto(page.url)
    expect(again.locator("#likely tbody tr").first).to_be_visible()
    expect(again.locator("#busy")).to_be_empty()
    assert painted(again) == painted(page)


def test_the_view_is_saved_as_png(server, open_page, tmp_path):
    page = open_page(server)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save view as PNG").click()
    assert download.value.suggested_filename == "tiles0.png_regions.png"
    download.value.save_as(tmp_path / "view.png")
    assert (tmp_path / "view.png").read_bytes().startswith(b"\x89PNG")


def test_an_image_of_ones_own_is_opened(server, open_page, tmp_path):
    own = tmp_path / "own.jpg"
    own.write_bytes(encoded(explored_image(5)[:40, :64], format="JPEG"))
    page = open_page(server)
    page.locator("#file").set_input_files(own)
    expect(page.locator("#image option")).to_have_count(3, timeout=WAIT)
    expect(page.locator("#image")).to_have_value(re.compile(r"^own\.jpg \("))
    expect(page.locator("#busy")).to_be_empty(timeout=WAIT)
    assert page.locator("#row").get_attribute("max") == "4"


def test_faults_are_said_in_a_sentence(server, open_page, tmp_path):
    (tmp_path / "notes.png").write_text("no image")
    (tmp_path / "large.png").write_bytes(bytes(65 * 2**20))
    page = open_page(server, refusals=True)
    alert = page.get_by_role("alert")
    page.locator("#file").set_input_files(tmp_path / "notes.png")
    expect(alert).to_have_text("notes.png cannot be read as an image; restore it or leave it out.")
    page.locator("#file").set_input_files(tmp_path / "large.png")
    expect(alert).to_contain_text("large.png has more than 64 MiB")
    page.locator("#view").click(position=place_of(page, 1, 1))
    expect(alert).to_be_hidden()


def test_a_link_to_an_image_that_is_gone_says_so_and_others_can_be_opened(server, browser):
    page = browser.new_page()
    page.goto(f"{server.address}/#image=gone.png")
    expect(page.get_by_role("alert")).to_contain_text("There is no image 'gone.png' here")
    page.locator("#image").select_option("tiles0.png")
    expect(page.locator("#likely tbody tr").first).to_be_visible(timeout=WAIT)
    expect(page.get_by_role("alert")).to_be_hidden()
    page.close()


def test_what_makes_no_sense_in_a_link_is_passed_over(server, open_page):
    page = open_page(
        server, pixel=-1, other=3.5, threshold=7, regions=0, representatives="x", hidden="a,9"
    )
    expect(page.locator("#error")).to_be_hidden()
    expect(page.locator("#threshold")).to_have_value("0.8")
    page.locator("#view").click(position=place_of(page, 1, 1))
    expect(page.locator("#readout")).to_contain_text("Row 1, column 1")


def test_another_link_in_the_same_tab_is_followed(server, open_page):
    page = open_page(server, pixel=34)
    page.goto(f"{server.address}/#image=tiles1.png&pixel=20")
    expect(page.locator("#image")).to_have_value("tiles1.png")
    expect(page.locator("#row")).to_have_value("2", timeout=WAIT)


def test_a_network_without_regions(files, open_page):
    server = Server(explorer_of(explored_model("none"), files))
    try:
        page = open_page(server)
        expect(page.locator("#without-regions")).to_be_visible()
        expect(page.locator("#with-regions")).to_be_hidden()
        expect(page.locator("#settings")).to_be_hidden()
        page.locator("#view").click(position=place_of(page, 3, 3))
        expect(page.locator("#readout")).to_contain_text("Row 3, column 3")
        page.context.close()
    finally:
        server.stop()


@pytest.mark.parametrize("align_corners", [True, False])
def test_a_feature_pixel_reaches_half_way_to_the_next(files, open_page, align_corners):
    server = Server(explorer_of(explored_model(align_corners=align_corners), files))
    try:
        page = open_page(server)
        for row, column in ((0.4, 7.6), (5.4, 0.6), (1.6, 1.4)):
            place = place_of(page, row, column, align_corners=align_corners)
            page.locator("#view").click(position=place)
            found = f"Row {round(row)}, column {round(column)}"
            expect(page.locator("#readout")).to_contain_text(found, timeout=WAIT)
        page.context.close()
    finally:
        server.stop()


def test_a_phone_has_room_for_it(server, open_page):
    page = open_page(server, width=360, height=740)
    page.locator("#view").click(position=place_of(page, 3, 4))
    expect(page.locator("#readout")).to_contain_text("Row 3, column 4")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_to_object_to(server, browser, scheme):
    context = browser.new_context(bypass_csp=True, color_scheme=scheme)
    page = context.new_page()
    page.goto(f"{server.address}/#pixel=34&other=41")
    expect(page.locator("#sources tbody tr").first).to_be_visible(timeout=WAIT)
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    context.close()


@pytest.fixture
def explored_in_a_program(tmp_path):
    """`ranet explore` with an image of 97 x 97 feature pixels, without the flags of the tests."""
    image = np.kron(explored_image(), np.ones((14, 14, 1), np.uint8))[:769, :769]
    (tmp_path / "large.png").write_bytes(encoded(image, format="PNG"))
    explored_model(channels=512, num_regions=64, per_region=8).save(tmp_path / "model")
    command = [sys.executable, "-m", "ranet_jax", "explore"]
    with subprocess.Popen(
        [*command, tmp_path / "model", tmp_path / "large.png", "--port", "0"],
        env={name: value for name, value in os.environ.items() if name != "XLA_FLAGS"},
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        yield Client(program.stdout.readline().split()[1].rstrip("/"))
        program.send_signal(signal.SIGINT)


def test_pointing_at_97_x_97_pixels(open_page, explored_in_a_program, capsys):
    """Print the time from pointing to picture without judging it: it depends on the machine too."""
    client = explored_in_a_program
    assert client.json("scene", image="large.png")["grid"] == [97, 97]
    client.json("pixel", image="large.png", pixel=0)  # compiles what pointing needs
    page = open_page(client)
    page.locator("#view").focus()
    start = page.locator("#readout").inner_text()
    for step in range(20):
        page.keyboard.press("ArrowRight" if step % 2 else "ArrowDown")
        expect(page.locator("#readout")).not_to_contain_text(start.split(":")[0])
        start = page.locator("#readout").inner_text()
    entries = "performance.getEntriesByName('pointing to picture').map(e => e.duration)"
    durations = page.evaluate(entries)[1:]
    assert len(durations) >= 15
    with capsys.disabled():
        print(
            f"\nfrom pointing to picture at 97 x 97: {statistics.median(durations):.0f} ms"
            f" (median of {len(durations)}; {min(durations):.0f} to {max(durations):.0f})"
        )
