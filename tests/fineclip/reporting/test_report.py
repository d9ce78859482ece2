"""One page on runs: it asks for nothing, texts are texts, figures are those of the sources."""

import base64
import json
import re
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from browser import complaints, open_browser, requested, set_size
from PIL import Image
from tool_runs import load_tool

from fineclip.annotations.predictions import PredictedRegion, Predictions, write_predictions
from fineclip.reporting import write_report
from fineclip.reporting.page import escaped
from fineclip.reporting.published import published_tables
from fineclip.reporting.sources import find_runs
from fineclip.run_record import RunRecord

EVIL = '<script>alert(1)</script>"\' onerror="x\ud800'
SHOWN = EVIL.replace("\ud800", "?")
VOID = {"meta", "img", "br", "link"}
BOX = (10.0, 10.0, 300.0, 200.0)


class Page(HTMLParser):
    """Refuses what is not well-formed or leads out of the page; collects texts and pictures."""

    def __init__(self, text):
        super().__init__()
        self.open, self.pictures, self.words, self.best = [], [], [], []
        self.in_best = False
        self.feed(text)
        self.close()
        assert self.open == []
        self.told = " ".join(self.words)

    def handle_starttag(self, tag, attrs):
        assert tag not in ("script", "iframe", "object", "base", "form")
        attributes = dict(attrs)
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("data:", "#"))
        if tag == "img":
            kind, data = attributes["src"].removeprefix("data:").split(";base64,")
            self.pictures.append((kind, base64.b64decode(data)))
            assert attributes["alt"]
        if tag not in VOID:
            self.open.append(tag)
        self.in_best = "best" in (attributes.get("class") or "").split()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.in_best = False

    def handle_data(self, data):
        self.words.append(data)
        if self.in_best:
            self.best.append(data)


def make_run(folder, score, lr=0.1, record=True, **settings):
    log = folder / "20260101_000000" / "vis_data" / "scalars.json"
    log.parent.mkdir(parents=True)
    lines = [{"lr": lr, "loss": 3.0 / step, "step": step} for step in (1, 2)]
    lines.append({"box_top1": score, "box_regions": 12345, "step": 2})
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = {"method": "fineclip", "lr": lr, "sizes": {"__tuple__": [1, 2]}, "max_epochs": 1}
    content = {"format": "fineclip-config", "version": 1, "name": "coco_eva02-b-16"}
    content["config"] = {**config, **settings}
    (folder / "plain_config.json").write_text(json.dumps(content))
    if record:
        made = RunRecord(folder, config="coco_eva02-b-16", device="cpu (1 threads)", seed=5)
        made.write(2, finished=True)


def page_of(*folders, out, **options):
    text = write_report(folders, out, **options).read_text(encoding="utf-8")
    assert not re.search(r"https?://", text)
    return Page(text)


def test_side_by_side(tmp_path):
    make_run(tmp_path / "a", 40.25, lr=0.1)
    make_run(tmp_path / "b", 41.5, lr=0.2, record=False)
    page = page_of(tmp_path / "a", tmp_path / "b", out=tmp_path / "r.html")
    assert {"40.25", "41.50", "12345"} <= set(page.words)
    assert page.best == ["41.50"]  # counts have none
    assert {"box_top1", "0.1", "0.2", "finished (step 2)", "5", "not recorded"} <= set(page.words)
    assert "Command, commit and machine of b are not recorded: there is no run.json" in page.told
    # Beside the configuration that both name, in the file as in the settings.
    assert "configs/fineclip/coco_eva02-b-16.py" in page.words
    # The paper's row of this configuration, and whose it is.
    assert "48.4" in page.words and "papers' models" in page.told
    curves = [content for kind, content in page.pictures if kind == "image/svg+xml"]
    assert len(curves) == 2 and all(b"<svg" in content for content in curves)


def test_many_runs_are_rows_and_seeds_share_a_colour(tmp_path):
    for seed in range(2):
        for score, name in enumerate("abcd"):
            folder = tmp_path / f"seed{seed}" / name
            make_run(folder, score + seed, record=False, method=name, seed=seed)
    (tmp_path / "seed0" / "scenes").mkdir()
    page = page_of(tmp_path, out=tmp_path / "r.html")
    assert "2.5 ± 0.7" in page.words  # c's 2 and 3
    assert "Command, commit and machine are not recorded" in page.told
    assert "Runs that differ in their seed alone have one colour." in page.words
    text = (tmp_path / "r.html").read_text()
    assert text.count('class="swatch"') == 4
    assert '<th scope="row">seed1/d</th><td class="number best">4.00</td>' in text
    runs, empty = find_runs([*tmp_path.glob("seed*/*"), tmp_path / "seed0" / "a"])
    assert sorted(run.name for run in runs) == [f"seed{s}/{n}" for s in (0, 1) for n in "abcd"]
    assert empty == [tmp_path / "seed0" / "scenes"]


def test_no_text_of_a_file_is_markup(tmp_path):
    run = tmp_path / "<script>run"
    make_run(run, 1.0, **{EVIL: EVIL})
    part = json.loads((run / "run.json").read_text())
    part["parts"][0] |= {"command": EVIL, "seed": EVIL, "started": EVIL, "config": EVIL}
    part["parts"][0]["machine"] = {"device": EVIL}
    (run / "run.json").write_text(json.dumps(part))
    (run / "test.json").write_text(json.dumps({EVIL: 1.0}))
    with next(run.glob("*/vis_data/scalars.json")).open("a") as log:
        log.write(json.dumps({"lr": 1, "loss" + EVIL: 1.0, "step": 3}) + "\n")
    Image.new("RGB", (80, 40)).save(run / "<img src=x>.png")
    regions = {"<img src=x>.png": [PredictedRegion(BOX, 0, 1, 0.5)], EVIL: []}
    write_predictions(run / "p.json", Predictions(str(run), (SHOWN, "<b>"), regions))
    make_run(tmp_path / "other", 2.0)
    page = page_of(run, tmp_path / "other", out=tmp_path / "r.html")
    assert {SHOWN, "<script>run", "<b>", f"loss{SHOWN}"} <= set(page.words)
    assert page.words.count(SHOWN) >= 6


def test_broken_runs_are_told_beside_others(tmp_path):
    make_run(tmp_path / "all" / "good", 3.0)
    bad = tmp_path / "all" / "bad"
    make_run(bad, 4.0, record=False)
    (bad / "plain_config.json").write_text('{"config": ' + '{"a": [' * 300)
    (bad / "run.json").write_text("[]")
    (bad / "result.json").write_text('{"metrics": 3, "seconds": "x"}')
    with next(bad.glob("*/vis_data/scalars.json")).open("a") as log:
        log.write('{"loss": NaN, "lr": 1, "step": 3}\n{"loss": 1.')
    killed = tmp_path / "all" / "killed"
    make_run(killed, 5.0)
    RunRecord(killed, config=None, device="cpu", seed=0).write(1)
    bomb = tmp_path / "all" / "bomb"
    bomb.mkdir()
    layers = [f"l{i + 1}: &l{i + 1} [{', '.join([f'*l{i}'] * 9)}]" for i in range(9)]
    (bomb / "config.yaml").write_text("\n".join(["l0: &l0 [a]", *layers]))
    page = page_of(tmp_path / "all", out=tmp_path / "r.html")
    assert "bad: plain_config.json cannot be read" in page.told
    assert "bad: run.json cannot be read" in page.told
    assert "bad: 1 lines of its curves cannot be read" in page.told
    assert "bad: not finite at some steps: loss" in page.told
    assert "killed is unfinished (step 1)" in page.told
    assert "bomb: config.yaml cannot be read: more than 10 aliases" in page.told
    assert {"3.00", "4.00", "5.00"} <= set(page.words)


def test_segmentation(tmp_path):
    seg = tmp_path / "seg"
    (seg / "inference" / "voc").mkdir(parents=True)
    (seg / "config.yaml").write_text("SEED: 4\nMODEL:\n  DEVICE: cpu\n")
    (seg / "metrics.json").write_text('{"iteration": 1, "lr": 0.1, "total_loss": 2.0}\n')
    scores = {"mIoU": 12.5, "IoU-cat": 20.5, "IoU-dog": None, "ACC-cat": 1.0}
    confused = [{"true": "cow", "predicted": "yak", "share": 44.4}, {"true": "cow"}, 3]
    content = {"sem_seg": scores, "confused": confused}
    (seg / "inference" / "voc" / "sem_seg_evaluation.json").write_text(json.dumps(content))
    page = page_of(tmp_path, out=tmp_path / "r.html")
    assert {"12.50", "20.5", "44.4"} <= set(page.words)
    assert {"voc/mIoU", "cat", "yak"} <= set(page.words)
    assert "ACC-cat" not in page.words


def test_confusion_and_pictures(tmp_path):
    make_run(tmp_path / "run", 1.0)
    Image.new("RGB", (800, 400), "white").save(tmp_path / "good.png")
    regions = {
        "good.png": [PredictedRegion(BOX, 0, 0, 0.5)] * 3,
        "gone.png": [PredictedRegion(BOX, 0, 1, 0.25), PredictedRegion(BOX, 1, None, None)],
    }
    file = tmp_path / "run" / "p.json"
    write_predictions(file, Predictions(str(tmp_path), ("cat", "dog"), regions))
    page = page_of(tmp_path / "run", out=tmp_path / "r.html", pictures=1)
    thumbnails = [content for kind, content in page.pictures if kind == "image/jpeg"]
    (size,) = (Image.open(BytesIO(content)).size for content in thumbnails)
    assert size == (360, 180)
    assert any("gone.png: 0 of 2 right. The picture cannot be read" in w for w in page.words)
    assert "25" in page.words  # percent: of four cats one was taken for the other
    content = json.loads(file.read_text())
    content["images"][0]["regions"][0]["true"] = 9
    file.write_text(json.dumps(content))
    page = page_of(tmp_path / "run", out=tmp_path / "r.html")
    assert any("9 is none of its 2 categories" in word for word in page.words)


def test_the_page_stays_small(tmp_path):
    """Noise, which no JPEG makes small, and a setting of a megabyte."""
    make_run(tmp_path / "run", 1.0, long="x" * 1_000_000)
    noise = np.random.default_rng(0).integers(0, 255, (900, 1200, 3), dtype=np.uint8)
    names = [f"{number}.png" for number in range(4)]
    Image.fromarray(noise).save(tmp_path / names[0])
    for name in names[1:]:
        (tmp_path / name).symlink_to(tmp_path / names[0])
    regions = {name: [PredictedRegion(BOX, 0, n % 2, 0.5)] * 50 for n, name in enumerate(names)}
    predictions = Predictions(str(tmp_path), ("a", "b"), regions)
    write_predictions(tmp_path / "run" / "p.json", predictions)
    out = tmp_path / "r.html"
    page = page_of(tmp_path / "run", out=out)
    assert len([kind for kind, _ in page.pictures if kind == "image/jpeg"]) == 4
    assert out.stat().st_size < 400_000
    assert len(escaped("x" * 1_000_000)) < 2_100


def test_published_tables_are_whole():
    for table in published_tables():
        assert table.configs or table.clips
        assert all(len(values) == len(table.metrics) for _, values in table.rows)


@pytest.mark.parametrize(("name", "message"), [("empty", "no run is"), ("no", "does not exist")])
def test_no_run_is_one_line_and_exit_code_2(tmp_path, capsys, name, message):
    (tmp_path / "empty").mkdir()
    out = tmp_path / "r.html"
    assert load_tool("report.py").main([str(tmp_path / name), "--out", str(out)]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and str(tmp_path / name) in error and "plain_config.json" in error
    assert "\n" not in error and not out.exists()


def test_in_chromium_all_pictures_load_and_nothing_is_asked_for(tmp_path):
    make_run(tmp_path / "a", 40.25)
    make_run(tmp_path / "b", 41.5, **{EVIL: EVIL})
    Image.new("RGB", (80, 60), "red").save(tmp_path / "0.png")
    regions = {"0.png": [PredictedRegion((5.0, 5.0, 30.0, 30.0), 0, 1, 0.5)]}
    predictions = Predictions(str(tmp_path), ("cat", SHOWN), regions)
    write_predictions(tmp_path / "a" / "p.json", predictions)
    out = write_report([tmp_path / "a", tmp_path / "b"], tmp_path / "r.html")
    with open_browser(tmp_path / "profile") as browser:
        browser.get(out.as_uri())
        widths = browser.execute_script(
            "return [...document.images].map(i => i.complete ? i.naturalWidth : 0)"
        )
        assert len(widths) == 3 and min(widths) > 0
        assert requested(browser) == [out.as_uri()]
        assert complaints(browser) == []  # its policy refused nothing of its own
        # The page itself fits; what is wide scrolls on its own.
        for width in (1280, 360):
            set_size(browser, width, 800)
            wide = (
                "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
            assert browser.execute_script(wide) <= 0
