"""The report in a browser: it opens from its file, its viewer shows what the tables say, and no one is shut out."""

import base64
import io
import re

import nibabel as nib
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from scipy import ndimage

from bids_group.cortex import load_cortex, project_to_cortex
from tests.browser.conftest import BLOB_RADIUS_MM, VOXEL_MM

T_CONTRAST = "model--anova--contrast--AMinusB"
F_CONTRAST = "model--anova--contrast--omnibus"
SLICES = ("sagittal", "coronal", "axial")
GREY_SPREAD = 40  # channels of a coloured pixel differ by more
SERIOUS = ("serious", "critical")


def find_viewer(page, contrast=T_CONTRAST):
    return page.locator(f"[id='{contrast}--viewer']")


def open_viewer(page, contrast=T_CONTRAST):
    viewer = find_viewer(page, contrast)
    viewer.locator("summary").click()
    viewer.locator(".value:not(:empty)").wait_for()
    return viewer


def find_table(page, label, contrast=T_CONTRAST):
    return page.locator(f"table[data-viewer='{contrast}--viewer'][data-map='{label}']")


def read_slice(viewer, name):
    """Return the pixels of a slice, shape (height, width, 3), without the green crosshair."""
    canvas = viewer.locator(".slice").nth(SLICES.index(name))
    encoded = canvas.evaluate("canvas => canvas.toDataURL('image/png').split(',')[1]")
    pixels = np.array(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB")).astype(int)
    pixels[(pixels[..., 1] > pixels[..., 0] + 20) & (pixels[..., 1] > pixels[..., 2] + 20)] = 0
    return pixels


def find_colour(pixels):
    return pixels.max(-1) - pixels.min(-1) > GREY_SPREAD


def count_coloured(viewer):
    return sum(int(find_colour(read_slice(viewer, name)).sum()) for name in SLICES)


def read_crosshair(viewer):
    return [float(viewer.locator(".mm").nth(axis).input_value()) for axis in range(3)]


def read_value(viewer):
    return float(re.search(r"= (-?[\d.]+)", viewer.locator(".value").inner_text())[1])


def set_slider(viewer, value):
    viewer.locator(".cutoff").evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')); }", value
    )


def read_column(table, name):
    headers = table.locator("thead th").all_inner_texts()
    place = next(i for i, header in enumerate(headers) if header.startswith(name))
    return [row.locator("th, td").nth(place).inner_text() for row in table.locator("tbody tr").all()]


def read_rows(table):
    """Return (x, y, z) and the peak of each row, as shown."""
    columns = [read_column(table, name) for name in ("x (mm)", "y (mm)", "z (mm)", "Peak")]
    return [[float(cell) for cell in cells] for cells in zip(*columns, strict=True)]


def test_nothing_is_unpacked_before_a_viewer_is_opened(page):
    assert page.evaluate("unpacked.size") == 0
    open_viewer(page)
    assert page.evaluate("unpacked.size") == 4  # the mask, the values, the template, the cortex


@pytest.mark.parametrize("contrast", [T_CONTRAST, F_CONTRAST])
def test_slices_show_the_brain_and_the_map(page, contrast):
    viewer = open_viewer(page, contrast)
    for name in SLICES:
        pixels = read_slice(viewer, name)
        assert 0.3 < (pixels.max(-1) > 30).mean() < 0.95
        assert find_colour(pixels).mean() > 0.01
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 100


def test_the_viewer_opens_at_the_largest_statistic(page):
    rows = read_rows(find_table(page, "uncorrected"))
    largest = max(rows, key=lambda row: abs(row[3]))
    viewer = open_viewer(page)
    assert [*read_crosshair(viewer), read_value(viewer)] == largest


@pytest.mark.parametrize("label", ["uncorrected", "bonferroni"])
def test_every_row_moves_the_crosshair_to_its_peak_and_is_marked(page, label):
    table, viewer = find_table(page, label), find_viewer(page)
    for number, row in enumerate(read_rows(table)):
        line = table.locator("tbody tr").nth(number)
        (line if number % 2 else line.locator("button")).click()
        viewer.locator(".value", has_text=f"survives {label}").wait_for()
        assert [*read_crosshair(viewer), read_value(viewer)] == row
        assert page.locator("tr[aria-current]").count() == 1
        assert line.get_attribute("aria-current") == "true"
        assert viewer.locator(".map").input_value() == label
        assert "display only" in viewer.inner_text()
        assert "the inference threshold is |t| ≥" in viewer.inner_text()


def test_back_leads_to_the_row_it_came_from(page):
    button = find_table(page, "bonferroni").locator("button.jump").first
    button.focus()
    page.keyboard.press("Enter")
    find_viewer(page).locator(".back").click()
    assert button.evaluate("button => button === document.activeElement")


def test_what_is_on_the_right_and_in_front_is_shown_there(page):
    viewer = open_viewer(page)
    viewer.locator(".map").select_option("bonferroni")
    for peak, is_right, is_front in ((42, -52, -16), True, False), ((-30, 26, 38), False, True):
        for axis, mm in enumerate(peak):
            viewer.locator(".mm").nth(axis).fill(str(mm))
            viewer.locator(".mm").nth(axis).press("Enter")
        up, across = np.nonzero(find_colour(read_slice(viewer, "axial")))
        height, width, _ = read_slice(viewer, "axial").shape
        assert (across.mean() > width / 2) == is_right
        assert (up.mean() < height / 2) == is_front
        up, across = np.nonzero(find_colour(read_slice(viewer, "sagittal")))
        height, width, _ = read_slice(viewer, "sagittal").shape
        assert (across.mean() > width / 2) == is_front
        assert (up.mean() < height / 2) == (peak[2] > 0)


def test_colours_tell_the_sign(page):
    viewer = open_viewer(page)
    viewer.locator(".map").select_option("bonferroni")
    for row in read_rows(find_table(page, "bonferroni")):
        viewer.locator(".mm").nth(2).fill(str(row[2]))
        viewer.locator(".mm").nth(2).press("Enter")
        pixels = read_slice(viewer, "axial")
        red, _, blue = pixels[find_colour(pixels)].mean(0)
        assert (red > blue) == (row[3] > 0)


def test_the_slider_hides_what_is_weaker_and_only_that(page):
    viewer = open_viewer(page)
    before = viewer.locator(".value").inner_text()
    counts = []
    for cutoff in (0, 2, 4, 8):
        set_slider(viewer, cutoff)
        assert viewer.locator(".cutoff-value").inner_text() == f"{cutoff:.2f}"
        counts.append(count_coloured(viewer))
    assert counts == sorted(counts, reverse=True)
    assert len(set(counts)) == 4
    assert viewer.locator(".value").inner_text() == before


def test_less_is_shown_of_survivors_than_of_the_whole_map_and_what_lacks_them_cannot_be_chosen(page):
    viewer = open_viewer(page)
    counts = []
    for label in ("", "uncorrected", "bonferroni"):
        viewer.locator(".map").select_option(label)
        counts.append(count_coloured(viewer))
    assert counts[0] > counts[1] > counts[2] > 0
    assert viewer.locator("option[value='bonferroniNegative']").is_disabled()


@pytest.mark.parametrize(
    ("name", "key", "axis", "step"),
    [
        ("sagittal", "ArrowRight", 1, 1),
        ("sagittal", "ArrowDown", 2, -1),
        ("coronal", "ArrowLeft", 0, -1),
        ("axial", "ArrowRight", 0, 1),
        ("axial", "ArrowUp", 1, 1),
        ("axial", "PageUp", 2, 1),
    ],
)
def test_keys_move_the_crosshair_by_a_voxel(page, name, key, axis, step):
    viewer = open_viewer(page)
    before = read_crosshair(viewer)
    viewer.locator(".slice").nth(SLICES.index(name)).focus()
    page.keyboard.press(key)
    expected = list(before)
    expected[axis] += step * VOXEL_MM
    assert read_crosshair(viewer) == expected


def test_a_click_moves_the_crosshair_there(page):
    viewer = open_viewer(page)
    canvas = viewer.locator(".slice").nth(SLICES.index("axial"))
    depth = read_crosshair(viewer)[2]
    box = canvas.bounding_box()
    canvas.click(position={"x": box["width"] * 0.25, "y": box["height"] * 0.25})
    x, y, z = read_crosshair(viewer)
    assert x == pytest.approx(-75 + 0.25 * 156, abs=VOXEL_MM)  # of a grid from -75 to 81 mm
    assert y == pytest.approx(77 - 0.25 * 192, abs=VOXEL_MM)  # and from -115 to 77 mm
    assert z == depth


def find_cortex(viewer):
    return viewer.locator(".cortex")


def read_cortex(viewer):
    """Return the pixels of the cortex, shape (height, width, 4)."""
    encoded = find_cortex(viewer).evaluate("canvas => canvas.toDataURL('image/png').split(',')[1]")
    return np.array(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGBA")).astype(int)


def count_red_and_blue(pixels):
    red, green, blue, opacity = np.moveaxis(pixels, -1, 0)
    is_ring = (green > red + 20) & (green > blue + 20)  # the crosshair's
    is_coloured = (opacity > 0) & find_colour(pixels[..., :3]) & ~is_ring
    is_red = red > blue
    return int((is_coloured & is_red).sum()), int((is_coloured & ~is_red).sum())


def test_the_cortex_shows_sulci_and_what_survives_in_its_hemisphere(page):
    viewer = open_viewer(page)
    viewer.locator(".map").select_option("bonferroni")
    viewer.locator("[data-view=below]").click()
    found = {}
    for name in ("left", "right", "both"):
        viewer.locator("label", has_text=re.compile(rf"^\s*{name}\s*$")).click()
        pixels = read_cortex(viewer)
        assert (pixels[..., 3] > 0).mean() > 0.1
        assert len(np.unique(pixels[pixels[..., 3] > 0], axis=0)) > 100
        found[name] = count_red_and_blue(pixels)
    assert found["left"][0] == 0  # what is below, on the right, is positive
    assert found["right"][0] > 50


def test_keys_turn_the_cortex_and_turn_it_back(page):
    viewer = open_viewer(page)
    find_cortex(viewer).focus()
    before = read_cortex(viewer)
    for keys in (("ArrowRight", "ArrowLeft"), ("ArrowUp", "ArrowDown")):
        page.keyboard.press(keys[0])
        assert (read_cortex(viewer) != before).any(axis=-1).mean() > 0.05
        page.keyboard.press(keys[1])
        assert (np.abs(read_cortex(viewer) - before).max(axis=-1) > 8).mean() < 0.01


def test_dragging_turns_the_cortex_and_leaves_the_crosshair(page):
    viewer = open_viewer(page)
    before, place = read_cortex(viewer), read_crosshair(viewer)
    find_cortex(viewer).scroll_into_view_if_needed()
    box = find_cortex(viewer).bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 + 80, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    assert (read_cortex(viewer) != before).any(axis=-1).mean() > 0.05
    assert read_crosshair(viewer) == place


def test_a_click_on_the_cortex_moves_the_crosshair_to_a_voxel_of_the_colour_that_is_there(page):
    viewer = open_viewer(page)
    viewer.locator(".map").select_option("bonferroni")
    viewer.locator("[data-view=below]").click()
    pixels = read_cortex(viewer)
    is_red = (pixels[..., 3] > 0) & find_colour(pixels[..., :3]) & (pixels[..., 0] > pixels[..., 2])
    # Inside the blob, where all neighbours are red.
    rows, columns = np.nonzero(ndimage.binary_erosion(is_red, iterations=4))
    assert rows.size
    row, column = rows[rows.size // 2], columns[rows.size // 2]
    box = find_cortex(viewer).bounding_box()
    height, width, _ = pixels.shape
    find_cortex(viewer).click(position={"x": column / width * box["width"], "y": row / height * box["height"]})
    assert read_value(viewer) > 0
    assert "survives bonferroni" in viewer.locator(".value").inner_text()
    assert np.linalg.norm(np.array(read_crosshair(viewer)) - (42, -52, -16)) < BLOB_RADIUS_MM + VOXEL_MM


def test_each_vertex_shows_the_voxel_that_the_figures_show(page, output):
    open_viewer(page)
    found = page.evaluate(
        """async ([id]) => {
            const viewer = new Viewer(document.getElementById(id));
            await viewer.load();
            return Array.from(viewer.surface.voxels, (voxel) => (voxel < 0 ? 0 : viewer.values[voxel]));
        }""",
        [f"{T_CONTRAST}--viewer"],
    )
    (path,) = (output / "node-anova").glob("*contrast-AMinusB_stat-t_statmap.nii.gz")
    image = nib.load(path)
    values = image.get_fdata(dtype=np.float32)
    expected = np.concatenate([project_to_cortex(values, image.affine, one) for one in load_cortex().values()])
    # Coordinates are rounded to 0.01 mm, so that a vertex at the border of two voxels may show the other.
    assert (np.abs(np.array(found) - expected) < 0.01).mean() > 0.995


def test_the_slider_hides_what_is_weaker_on_the_cortex_too(page):
    viewer = open_viewer(page)
    counts = []
    for cutoff in (0, 2, 4, 30):
        set_slider(viewer, cutoff)
        counts.append(sum(count_red_and_blue(read_cortex(viewer))))
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > 1000
    assert counts[-1] < 20  # of the ring's rim


def test_headers_sort_their_tables(page):
    table = find_table(page, "uncorrected")
    header = table.locator("thead th", has_text="Peak t")
    given = [float(cell) for cell in read_column(table, "Peak")]
    assert given != sorted(given)
    for direction, expected in (("ascending", sorted(given)), ("descending", sorted(given, reverse=True))):
        header.locator("button").click()
        assert header.get_attribute("aria-sort") == direction
        assert [float(cell) for cell in read_column(table, "Peak")] == expected
    assert table.locator("[aria-sort]").count() == 1


def test_missing_cells_stay_last_when_sorted(page):
    page.locator("details", has_text="all columns").locator("summary").click()
    table = page.locator("[id$='--results'] table, table:has([id$='--results--caption'])").first
    header = table.locator("thead th", has_text="peak_value")
    for _ in range(2):
        header.locator("button").click()
        cells = read_column(table, "peak_value")
        assert cells[-1] == "n/a"
        assert "n/a" not in cells[:1]


def test_without_scripts_everything_is_readable_and_nothing_is_dead(open_page):
    page = open_page(java_script_enabled=False)
    assert page.locator("button:visible, canvas:visible, .viewer:visible, input:visible").count() == 0
    for summary in page.locator("summary:visible").all():
        summary.click()
    assert page.locator("figure img:visible").count() == page.locator("figure img").count() > 8
    assert find_table(page, "uncorrected").is_visible()
    assert "survive" in page.locator("main").inner_text()


def test_on_paper_there_is_no_viewer(page):
    open_viewer(page)
    page.emulate_media(media="print")
    assert page.locator(".viewer:visible, nav:visible").count() == 0
    assert page.locator("figure img:visible").count() > 8


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(open_page, scheme):
    page = open_page(color_scheme=scheme, viewport={"width": 1280, "height": 900})
    find_table(page, "uncorrected").locator("button.jump").first.click()
    find_viewer(page).locator(".value", has_text="survives").wait_for()
    faults = Axe().run(page).response["violations"]
    assert [(fault["id"], fault["nodes"][0]["html"]) for fault in faults if fault["impact"] in SERIOUS] == []


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_the_page_is_never_wider_than_the_screen(open_page, width):
    page = open_page(viewport={"width": width, "height": 844})
    viewer = open_viewer(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for canvas in viewer.locator(".slice").all():
        box = canvas.bounding_box()
        shape = canvas.evaluate("canvas => [canvas.width, canvas.height]")
        assert box["width"] > 100
        assert box["width"] / box["height"] == pytest.approx(shape[0] / shape[1], rel=0.02)
