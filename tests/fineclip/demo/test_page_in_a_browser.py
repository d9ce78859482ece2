"""The page used as a person would, in Debian's Chromium, with another visitor at the same time."""

import contextlib
import json
import threading
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import pytest
import torch
from browser import complaints, open_browser, requested
from PIL import Image

from fineclip.demo import page
from fineclip.demo.bounds import DEFAULT_BOUNDS
from fineclip.demo.serving import address_of, expected_hosts, listening_socket, make_server
from fineclip.demo.views import PageViews, Shown
from fineclip.models import DenseCLIP
from fineclip.scenes import make_scenes
from fineclip.visualization import draw_boxes

SECONDS = 20


@contextlib.contextmanager
def served(views, folder):
    """The page's address while it is served."""
    hosts = expected_hosts("127.0.0.1")
    with listening_socket("127.0.0.1", 0) as listening:
        server = make_server(page.application(views, "a tiny model, untrained", folder, hosts))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield address_of(listening)
        finally:
            server.should_exit = True
            thread.join(SECONDS)


class Visitor:
    """A person with a browser: looks for things by what they say."""

    def __init__(self, browser, address):
        self.browser = browser
        self.browser.get(address)
        self.wait_for(lambda: self.all("#photograph input[type=file]"))

    def all(self, selector):
        return self.browser.find_elements("css selector", selector)

    def wait_for(self, what):
        from selenium.common.exceptions import WebDriverException
        from selenium.webdriver.support.wait import WebDriverWait

        waiting = WebDriverWait(self.browser, SECONDS, 0.1, [WebDriverException])
        return waiting.until(lambda _: what())

    @property
    def note(self):
        return self.all("#note textarea")[0].get_property("value")

    def sees(self, words):
        """Waits for a note."""
        self.wait_for(lambda: words in self.note)

    def sees_pictures(self, title, count):
        """Waits for so many pictures of a tab, each of them whole."""
        selector = f"#shown-{title.lower().replace(' ', '-')} img"
        whole = "return arguments[0].naturalWidth > 0"

        def come():
            found = self.all(selector)
            return len(found) == count and all(
                self.browser.execute_script(whole, picture) for picture in found
            )

        self.wait_for(come)

    def drop(self, file):
        if remove := self.all("#photograph button[aria-label='Remove Image']"):
            remove[0].click()
            self.sees("Drop a photograph")
        (place,) = self.wait_for(lambda: self.all("#photograph input[type=file]"))
        place.send_keys(str(file))

    def type(self, text, enter=True):
        from selenium.webdriver import Keys

        (box,) = self.all("#words textarea")
        box.send_keys(Keys.CONTROL, "a")
        self.browser.execute_cdp_cmd("Input.insertText", {"text": text})  # as pasting does
        if enter:
            box.send_keys(Keys.ENTER)

    def open(self, title):
        tabs = {tab.text: tab for tab in self.all("button[role=tab]") if tab.is_displayed()}
        tabs[title].click()

    @property
    def text(self):
        """What can be read on the page."""
        return self.all("body")[0].text


def draw_one_box(image, words, settings):
    """Stands for a detector."""
    return draw_boxes(image, [[4, 4, 20, 20]], [0], [f"{words[0]} {settings.score:.2f}"])


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Photographs, and what is dropped by mistake."""
    folder = tmp_path_factory.mktemp("photos")
    make_scenes(folder / "scenes", images=1, val_images=2, size=64)
    (folder / "empty.png").write_bytes(b"")
    Image.new("1", (10_000, 10_000)).save(folder / "huge.png")
    return folder


@pytest.fixture(scope="module")
def photo(photos):
    return sorted((photos / "scenes/val").iterdir())[0]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    pytest.importorskip("gradio")
    torch.manual_seed(0)
    views = PageViews(DenseCLIP.create("ViT-Ti-8-scenes").eval(), detect=draw_one_box)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("GRADIO_ANALYTICS_ENABLED", "GRADIO_TEMP_DIR"):
            patch.setenv(name, "")  # the page sets them; afterwards they are as before
        with served(views, tmp_path_factory.mktemp("page")) as at:
            yield at


@pytest.fixture(scope="module")
def visitor(address, tmp_path_factory):
    with open_browser(tmp_path_factory.mktemp("browser")) as browser:
        yield Visitor(browser, address)


def test_every_tab(visitor, photo):
    """Upload, words, each tab."""
    visitor.drop(photo)
    visitor.type("red ring, wooden floor, zebra")
    visitor.wait_for(lambda: "zebra (cosine" in visitor.text)
    for title, count in (("Regions", 1), ("Dense map", 3), ("Relevance", 3), ("Detect", 1)):
        visitor.open(title)
        visitor.sees_pictures(title, count)
    visitor.open("Segment")
    visitor.sees("started without this model")
    assert "--segmenter" in visitor.text
    visitor.open("Words")


def test_words_are_followed_while_they_are_typed(visitor, photo):
    visitor.drop(photo)
    visitor.type("red ring, zebra", enter=False)
    visitor.wait_for(lambda: "red ring (cosine" in visitor.text)
    visitor.open("Detect")
    visitor.type("wooden floor", enter=False)
    visitor.sees("Press Enter")
    visitor.open("Words")


def test_mistakes_are_told_and_the_page_lives(visitor, photos, photo):
    visitor.type("red ring, zebra")
    for name, message in (
        ("empty.png", "empty.png: is an empty file"),
        ("huge.png", "huge.png: has 10000 x 10000 pixels, 50 million at most"),
    ):
        visitor.drop(photos / name)
        visitor.sees(message)
    visitor.drop(photo)
    visitor.wait_for(lambda: "zebra (cosine" in visitor.text)
    visitor.type(",".join(f"word {number}" for number in range(500)))
    visitor.sees("500 words are too many: 100 at most")
    visitor.type("🐱, zebra")
    visitor.wait_for(lambda: "🐱 (cosine" in visitor.text)


def test_two_visitors(visitor, address, photos, photo, tmp_path):
    """Each sees what belongs to the own photograph and words."""
    with open_browser(tmp_path, width=390, height=844) as browser:
        other = Visitor(browser, address)
        visitor.drop(photo)
        other.drop(sorted((photos / "scenes/val").iterdir())[1])
        visitor.type("zebra, ring")
        other.type("wooden floor, kettle")
        other.wait_for(lambda: "kettle (cosine" in other.text)
        visitor.wait_for(lambda: "zebra (cosine" in visitor.text)
        assert "kettle" not in visitor.text and "zebra" not in other.text
        width = browser.execute_script("return document.documentElement.scrollWidth")
        assert width == 390  # nothing is cut off on a phone


def test_requests_wait_in_a_queue_with_an_end(address, monkeypatch):
    done = threading.Event()
    monkeypatch.setattr(page, "_shown", lambda *_: done.wait(SECONDS) and Shown(None))
    asked = {"fn_index": 0, "session_hash": "somebody", "data": [0, None, "", 3, 0.2, 0.55, 0]}
    request = urllib.request.Request(
        f"{address}/gradio_api/queue/join",
        json.dumps(asked).encode(),
        {"Content-Type": "application/json"},
    )

    def join():
        try:
            return urllib.request.urlopen(request).status
        except urllib.error.HTTPError as error:
            return error.code

    try:
        answers = [join() for _ in range(DEFAULT_BOUNDS.waiting + 2)]  # one is at work
    finally:
        done.set()
    assert answers[:-2] == [200] * DEFAULT_BOUNDS.waiting
    assert answers[-1] == 503


def test_no_request_leaves_the_machine(visitor):
    """All of the tests above; what the browser refuses to ask for is a complaint."""
    assert {urlsplit(url).hostname for url in requested(visitor.browser)} == {"127.0.0.1"}
    assert [text for text in complaints(visitor.browser) if "Content Security" in text] == []
