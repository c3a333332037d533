"""The reading room in a real browser, as a person uses it: drop, look, change, download."""

import contextlib
import csv
import io
import shutil
import socket
import threading
import time

import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
playwright.expect.set_options(timeout=180_000)
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="needs Debian's chromium")

DROP = """([target, files]) => {
    const transfer = new DataTransfer();
    for (const [name, bytes] of files) {
        transfer.items.add(new File([Uint8Array.from(atob(bytes), c => c.charCodeAt(0))], name));
    }
    document.querySelector(target).dispatchEvent(
        new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true}));
}"""
PIXELS = """() => {
    const canvas = document.getElementById("picture");
    const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    let sum = 0, colour = 0;
    for (let i = 0; i < data.length; i += 4) {
        sum += data[i] + data[i + 1] + data[i + 2];
        colour += Math.abs(data[i] - data[i + 1]) + Math.abs(data[i + 1] - data[i + 2]);
    }
    return [sum, colour];
}"""


@contextlib.contextmanager
def serving(app):
    """The address of an app that uvicorn serves in a thread."""
    import uvicorn

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + 60
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(30)


@pytest.fixture(scope="module")
def address(bundle):
    from mura_tf.inference.server import create_app

    with serving(create_app(bundle.path)) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(params=["light", "dark"])
def page(browser, address, request):
    width = {"light": 1280, "dark": 390}[request.param]
    context = browser.new_context(
        color_scheme=request.param, viewport={"width": width, "height": 900}, accept_downloads=True
    )
    page = context.new_page()
    page.set_default_timeout(180_000)
    page.problems = []
    page.on("filechooser", lambda chooser: None)  # from now on, not when one is first expected
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda said: said.type == "error" and page.problems.append(said.text))
    page.goto(address)
    playwright.expect(page.locator("#model")).not_to_be_empty()
    yield page
    assert page.problems == []
    context.close()


def radiographs(folder):
    return sorted(folder.rglob("*.png"))


def as_dropped(paths):
    """Names, each another, and contents."""
    import base64

    return [
        [f"{number}.png", base64.b64encode(path.read_bytes()).decode()]
        for number, path in enumerate(paths)
    ]


def test_drop_look_change_download(page, lesions, bundle):
    page.select_option("#type", "wrist")
    paths = radiographs(lesions / "valid/XR_WRIST")[:4]
    page.evaluate(DROP, ["#drop", as_dropped(paths)])
    page.wait_for_selector("#worklist li")
    assert page.locator("#worklist li").count() == 4
    scroll = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert scroll <= 0, "nothing is wider than the window"

    # the most abnormal first
    order = {"abnormal": 0, "doubtful": 1, "normal": 2}
    said = [
        text.split(": ")[1].split(",")[0]
        for text in page.locator("#worklist span").all_inner_texts()
    ]
    assert [order[decision] for decision in said] == sorted(order[decision] for decision in said)
    assert page.inner_text("#decision") in order

    # the picture answers to its controls
    playwright.expect(page.locator("#views [aria-current=true]")).to_have_count(1)
    for _ in range(600):  # 30 s, until the picture is loaded
        _, warm = page.evaluate(PIXELS)
        if warm:
            break
        page.wait_for_timeout(50)
    assert warm
    page.keyboard.press("h")
    plain, colour = page.evaluate(PIXELS)
    assert colour < warm / 10
    page.keyboard.press("i")
    inverted, _ = page.evaluate(PIXELS)
    assert inverted > plain
    page.keyboard.press("0")
    page.fill("#level", "20")
    assert page.evaluate(PIXELS)[0] > plain
    page.focus("#picture")
    page.keyboard.press("+")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("[state.zoom, state.x]") == [1.25, 40]
    before = page.inner_text("#name")
    page.keyboard.press("n")
    playwright.expect(page.locator("#name")).not_to_have_text(before)
    page.keyboard.press("p")
    playwright.expect(page.locator("#name")).to_have_text(before)

    # what is downloaded is what the bundle says
    with page.expect_download() as download:
        page.click("#csv")
    text = download.value.path().read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    expected = bundle.read(paths, study_type="wrist")
    by_name = {row["study"]: row for row in rows}
    assert by_name.keys() == {f"{number}.png" for number in range(4)}
    for number, one in expected.iterrows():
        row = by_name[f"{number}.png"]
        assert row["decision"] == one.decision
        assert float(row["probability"]) == pytest.approx(one.probability, abs=1e-5)
    with page.expect_download() as download:
        page.click("#png")
    assert download.value.path().read_bytes().startswith(b"\x89PNG")


def test_a_picture_that_is_gone_leaves_no_others_under_its_name(page, lesions):
    page.select_option("#type", "wrist")
    page.evaluate(DROP, ["#drop", as_dropped(radiographs(lesions / "valid/XR_WRIST")[:2])])
    page.wait_for_selector("#worklist li")
    playwright.expect(page.locator("#png")).to_be_enabled()
    decided = page.locator("#numbers dd").nth(3).inner_text()
    page.select_option("#point", "paper")
    page.route("**/api/pictures/**", lambda route: route.abort())
    page.locator("#worklist button").nth(1).click()
    playwright.expect(page.locator("#png")).to_be_disabled()
    playwright.expect(page.locator("#missing")).to_contain_text("This picture is forgotten by now")
    assert page.evaluate(PIXELS)[1] == 0
    assert page.locator("#numbers dd").nth(3).inner_text() == decided != ""
    page.problems.clear()  # the browser logs what was aborted itself


def test_by_keyboard_alone(page, lesions):
    path = next((lesions / "valid/XR_ELBOW").rglob("*.png"))
    page.select_option("#type", "elbow")
    page.focus("#drop")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(path)
    page.wait_for_selector("#worklist li")
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.parentElement.id") == "views":
            break
    for key, expected in (("n", "views"), ("v", "views")):  # which keep the focus
        page.keyboard.press(key)
        assert page.evaluate("document.activeElement.parentElement.id") == expected


def test_names_are_text_and_what_cannot_be_read_is_told(page):
    import base64

    name = "<img src=x onerror=alert(1)>.png"
    page.evaluate(DROP, ["#drop", [[name, base64.b64encode(b"nothing").decode()]]])
    page.wait_for_selector("#worklist li")
    assert page.inner_text("#name") == name
    assert page.inner_text("#decision") == "not read"
    assert "not a PNG" in page.inner_text("#warnings")
    assert page.locator("#name img").count() == 0


def test_what_is_dropped_while_others_are_read_is_read_then(page, lesions):
    page.select_option("#type", "wrist")
    first, second, third = as_dropped(radiographs(lesions / "valid/XR_WRIST")[:3])
    for one in (first, second, third):
        page.evaluate(DROP, ["#drop", [one]])
    playwright.expect(page.locator("#worklist li")).to_have_count(3)


def test_an_upload_that_is_no_table_or_zip_is_told(page):
    import base64

    page.evaluate(DROP, ["#drop", [["x.zip", base64.b64encode(b"PK\x03\x04broken").decode()]]])
    playwright.expect(page.locator("#failures")).to_contain_text("x.zip: ")
    playwright.expect(page.locator("#failures")).to_contain_text("must be a whole zip")
    page.problems.clear()  # the browser logs the answer's status 422 itself


def test_failures_stay_while_others_are_read_and_names_are_told_apart(page, lesions):
    import base64

    broken = ["x.zip", base64.b64encode(b"PK\x03\x04broken").decode()]
    page.select_option("#type", "wrist")
    one = as_dropped(radiographs(lesions / "valid/XR_WRIST")[:1])
    together = f"(drops) => drops.forEach((one) => ({DROP})(['#drop', one]))"
    page.evaluate(together, [[broken], one, one])
    playwright.expect(page.locator("#worklist li")).to_have_count(2)
    playwright.expect(page.locator("#failures li")).to_have_count(1)
    named = page.evaluate("order().map((study) => study.study)")
    assert sorted(named) == ["0.png", "0.png (2)"]
    page.evaluate(DROP, ["#drop", []])
    playwright.expect(page.locator("#failures")).to_contain_text("there is no file in what")
    page.problems.clear()  # the browser logs the answer's status 422 itself


def test_what_a_mac_leaves_beside_each_file_does_not_count(page):
    """Of a dropped folder; also not to the limit."""
    names = page.evaluate("""async () => {
        const leaf = (name) => ({ name, isFile: true, file: (yes) => yes(new File([], name)) });
        const files = Array.from({ length: 700 }, (_, n) => [leaf(`._${n}.png`), leaf(`${n}.png`)]);
        let batches = [files.flat(), []];
        const reader = { readEntries: (yes) => yes(batches.shift()) };
        const found = [];
        await entryFiles({ name: "visit", createReader: () => reader }, "", found);
        return found.map(([name]) => name);
    }""")
    assert names == [f"visit/{number}.png" for number in range(700)]


def test_too_many_files_another_model_and_no_server_are_told(page, lesions):
    path = radiographs(lesions / "valid/XR_WRIST")[0]
    page.evaluate("send(Array.from({ length: 1001 }, (_, n) => [`${n}.png`, new File([], 'x')]))")
    playwright.expect(page.locator("#failures")).to_contain_text("1000 files at most")
    page.evaluate("state.bundle = 'another'")
    page.evaluate(DROP, ["#drop", as_dropped([path])])
    playwright.expect(page.locator("#failures")).to_contain_text("reload the page")
    page.route("**/api/read", lambda route: route.abort())
    page.evaluate(DROP, ["#drop", as_dropped([path])])
    playwright.expect(page.locator("#failures")).to_contain_text("the server does not answer")
    page.problems.clear()  # the browser logs what was aborted, and the status 409
