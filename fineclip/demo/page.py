"""The page itself, on Gradio, which only this module knows."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from fineclip.demo.gate import App, Gate
from fineclip.demo.views import PageViews, Settings, Shown
from fineclip.interrupts import error_line

_CLEANING_SECONDS, _KEPT_SECONDS = 300, 3600  # files of visitors
# The number of the tab that is open, which a click may be about to change, in place of the first.
_WITH_TAB = """async (_, ...others) => {
  await new Promise((resolve) => setTimeout(resolve));
  const tab = document.querySelector("[role=tab][aria-selected=true]");
  return [Number(tab.dataset.tabId), ...others];
}"""
_STYLE = """
#note, #note textarea { border: none !important; background: none; box-shadow: none; padding: 0; }
.grid-wrap { max-height: none !important; }
.prose code { overflow-wrap: anywhere; white-space: normal; }
"""


class TabView(NamedTuple):
    """A tab of the page.

    Attributes:
        title: What it is called.
        about: What it says about itself.
        show: What it shows of file, text and settings.
        kind: "scores", "picture" or "panels".
        quick: Whether it follows while somebody types, or waits for Enter.
        loaded: Whether the model that it asks is there.
    """

    title: str
    about: str
    show: Callable[[str | None, str, Settings], Shown]
    kind: str
    quick: bool = True
    loaded: bool = True


def tabs_of(views: PageViews) -> tuple[TabView, ...]:
    """The tabs of the page, in their order."""
    missing = "No {} is loaded. Start the page with {} and the weights of a trained {}."
    detect = "Boxes around what the words name, with the detector's scores."
    if views.detector is None:
        detect = missing.format("detector", "`--detector`", "F-ViT")
    segment = "The likeliest of the words for every pixel, and the share of each."
    if views.segmenter is None:
        segment = missing.format("segmenter", "`--segmenter`", "CAT-Seg")
    return (
        TabView(
            "Words",
            "Which of the words fits the whole photograph best? The scores compare these words; "
            "they are no evidence that the best one is there.",
            views.words,
            "scores",
        ),
        TabView("Regions", "Which of the words fits each cell best?", views.regions, "picture"),
        TabView("Dense map", "How similar is each place to each word?", views.dense_map, "panels"),
        TabView(
            "Relevance",
            "Which places make a word fit the whole photograph?",
            views.relevance,
            "panels",
            quick=False,
        ),
        TabView("Detect", detect, views.detect, "picture", False, views.detector is not None),
        TabView("Segment", segment, views.segment, "picture", False, views.segmenter is not None),
    )


def application(views: PageViews, headline: str, folder: Path, hosts: tuple[str, ...]) -> App:
    """The page as an application that a server runs.

    Args:
        views: What it shows.
        headline: The model and the like.
        folder: Where uploaded and drawn files go; it is for the caller to remove.
        hosts: See :class:`fineclip.demo.gate.Gate`.
    """
    # Read when Gradio is imported, and while the page is laid out.
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": str(folder)}
    import gradio as gr
    from fastapi import FastAPI

    app = gr.mount_gradio_app(
        FastAPI(openapi_url=None),
        _build_page(views, headline),
        path="/",
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=views.bounds.file_bytes,
        css=_STYLE,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
    )
    return Gate(app, views.bounds.file_bytes, hosts)


def _build_page(views: PageViews, headline: str) -> Any:
    """Lays out the page (gradio's ``Blocks``) and connects it with the views."""
    import gradio as gr

    tabs = tabs_of(views)
    page = gr.Blocks(
        title="FineCLIP", analytics_enabled=False, delete_cache=(_CLEANING_SECONDS, _KEPT_SECONDS)
    )
    with page:
        gr.Markdown(f"# What does a CLIP see?\n`{headline}`")
        number = gr.Number(0, minimum=0, maximum=len(tabs) - 1, precision=0, visible=False)
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                photograph = _photograph_input()
                words = gr.Textbox(
                    label="Words, separated by commas",
                    placeholder="cat, a red umbrella, grass",
                    max_lines=4,
                    elem_id="words",
                )
                note = gr.Textbox(
                    "Drop a photograph, and type words to look for.",
                    label="Note",
                    show_label=False,
                    container=False,
                    interactive=False,
                    elem_id="note",
                )
            with gr.Column(scale=3, min_width=320), gr.Tabs(overflow_behavior="wrap") as choice:
                sliders = _sliders()
                contents = [
                    _tab(place, tab, sliders.get(tab.title, ())) for place, tab in enumerate(tabs)
                ]
        moved = [slider for of_tab in sliders.values() for slider in of_tab]

        def answer(tab: int, file: str | None, text: str, *values: float) -> dict[Any, Any]:
            shown = _shown(tabs[tab].show, file, text, values)
            return {note: shown.note, contents[tab]: shown.content}

        def follow(tab: int, file: str | None, text: str, *values: float) -> dict[Any, Any]:
            if tabs[tab].quick:
                return answer(tab, file, text, *values)
            return {note: _shown(views.prepare, file, text, values).note}

        options: dict[str, Any] = {
            "inputs": [number, photograph, words, *moved],
            "outputs": [note, *contents],
            "js": _WITH_TAB,
            "concurrency_limit": 1,  # of all visitors
            "concurrency_id": "models",
            "show_progress": "minimal",
            "api_visibility": "private",
        }
        changes = [choice.change, photograph.change, words.submit, *(s.release for s in moved)]
        gr.on(changes, answer, trigger_mode="multiple", **options)
        # While somebody types, one request at a time; what is typed meanwhile follows as one.
        gr.on([words.change], follow, trigger_mode="always_last", **options)
    page.queue(api_open=False, max_size=views.bounds.waiting, default_concurrency_limit=1)
    return page


def _photograph_input() -> Any:
    """Where a photograph is dropped; it hands over the file as it is, not decoded yet."""
    import gradio as gr

    photograph: Any = gr.Image(
        label="Photograph",
        placeholder="Drop a photograph here,\nor click to choose one",
        sources=["upload", "clipboard"],
        height=320,
        buttons=[],
        elem_id="photograph",
    )
    photograph.preprocess = lambda payload: None if payload is None else payload.path
    return photograph


def _sliders() -> dict[str, tuple[Any, ...]]:
    """Sliders by tab, in the order of :class:`Settings`, to be rendered in their tabs."""
    import gradio as gr

    start = Settings()
    unit: dict[str, Any] = {"minimum": 0, "maximum": 1, "step": 0.05, "render": False}
    return {
        "Regions": (gr.Slider(1, 4, start.grid, label="Rows and columns", step=1, render=False),),
        "Detect": (gr.Slider(value=start.score, label="Leave out what is less certain", **unit),),
        "Segment": (
            gr.Slider(value=start.opacity, label="Opacity of the colours", **unit),
            gr.Slider(
                value=start.none_below, label="None of the words below this probability", **unit
            ),
        ),
    }


def _tab(number: int, tab: TabView, sliders: tuple[Any, ...]) -> Any:
    """Lays out a tab; returns what shows its content."""
    import gradio as gr

    with gr.Tab(tab.title, id=number):
        gr.Markdown(tab.about)
        for slider in sliders:
            slider.visible = tab.loaded
            slider.render()
        name = "shown-" + tab.title.lower().replace(" ", "-")
        options: dict[str, Any] = {"label": tab.title, "show_label": False, "elem_id": name}
        options["visible"] = tab.loaded
        if tab.kind == "scores":
            return gr.Label(num_top_classes=None, show_heading=False, **options)
        if tab.kind == "picture":
            return gr.Image(interactive=False, buttons=["download", "fullscreen"], **options)
        return gr.Gallery(columns=2, object_fit="contain", buttons=["fullscreen"], **options)


def _shown(
    show: Callable[[str | None, str, Settings], Shown],
    file: str | None,
    text: str,
    values: tuple[float, ...],
) -> Shown:
    """What a view shows; what is wrong is a note, and nothing is shown then."""
    grid, *others = values
    try:
        return show(file, text, Settings(int(grid), *others))
    except (ValueError, OSError) as error:
        return Shown(None, error_line(error))
