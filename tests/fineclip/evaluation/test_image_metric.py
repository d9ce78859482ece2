from two_process_step import Ids, samples

from fineclip.evaluation import image_metric


def test_one_process():
    metric = Ids()
    metric.process({"skipped": [("x", "why")]}, samples(1, 2, 1))
    assert metric.evaluate(size=1) == {"ids": [1, 2], "skipped": ["x"]}
    assert metric.evaluate(size=1) == {"ids": [], "skipped": []}


def test_each_skipped_file_is_reported_once(monkeypatch):
    messages = []
    monkeypatch.setattr(image_metric, "print_log", lambda text, **_: messages.append(text))
    metric = Ids()
    for _ in range(2):
        metric.process({"skipped": [("bad.jpg", "cannot be decoded")]}, [])
        metric.evaluate(size=1)
    (message,) = messages
    assert message == "Ids: left out of the evaluation (1):\n  bad.jpg: cannot be decoded"
