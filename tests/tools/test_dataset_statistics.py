"""tools/dataset_statistics.py: what it prints and refuses."""

import json


def test_region_captions(run_tool, tmp_path):
    (tmp_path / "regions.json").write_text(json.dumps({"1": "two cats", "2": "a red bus"}))
    done = run_tool(
        "dataset_statistics.py",
        tmp_path / "regions.json",
        *["--vocabulary", "pc59", "--min-captions", 1, "--out", tmp_path / "out"],
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "pc59, 59 categories: 2 relevant, 0 weakly relevant, 57 absent" in done.stdout
    files = {file.name: file.stat().st_size for file in (tmp_path / "out").iterdir()}
    assert files.keys() == {"statistics.json", "overview.png", "coverage_pc59.png"}
    assert min(files.values()) > 5000


def test_mistakes(run_tool, tmp_path):
    def refused(*options):
        done = run_tool("dataset_statistics.py", *options, "--out", tmp_path / "out")
        assert done.returncode == 2 and done.stderr.count("\n") == 1
        return done.stderr

    (tmp_path / "regions.json").write_text("{}")
    data = tmp_path / "regions.json"
    assert "none.json does not exist" in refused(tmp_path / "none.json")
    assert "unknown vocabulary 'pc60'" in refused(data, "--vocabulary", "pc60")
    assert "belong together" in refused(data, "--vocabulary", "pc59", "--model", "ViT-B-16")
    assert "add --vocabulary" in refused(data, "--model", "ViT-B-16", "--weights", "openai")
    assert "name their folder (--image-root)" in refused(data, "--benchmark-images", tmp_path)
    assert not (tmp_path / "out").exists()
