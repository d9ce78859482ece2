"""Reading JSON with clear errors, and folders that are whole or absent."""

import pytest

from fineclip.files import parse_json, read_json, replacing_folder, require_keys


def test_a_file_is_read(tmp_path):
    (tmp_path / "a.json").write_bytes('{"é": [1]}'.encode())
    assert read_json(tmp_path / "a.json", "captions") == {"é": [1]}


def test_errors_say_what_was_expected_and_what_came(tmp_path):
    file = tmp_path / "a.json"
    with pytest.raises(FileNotFoundError, match=r"^captions: .*a\.json does not exist$"):
        read_json(file, "captions")
    for content in (b"{", b"\xff\xfe\xfa"):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"^captions: .*a\.json is not valid JSON: "):
            read_json(file, "captions")
    with pytest.raises(ValueError, match=r"^captions: .* cannot be read: Is a directory$"):
        read_json(tmp_path, "captions")
    with pytest.raises(ValueError, match=r"^shard: 1\.json is not valid JSON: "):
        parse_json("[1", "shard: 1.json")


def test_keys_are_required_of_objects():
    require_keys({"a": 1, "b": 2}, ["a"], "here")
    with pytest.raises(ValueError, match=r"^here: missing key 'b'$"):
        require_keys({"a": 1}, ["a", "b"], "here")
    with pytest.raises(ValueError, match=r"^here: expected a JSON object, got list$"):
        require_keys([], ["a"], "here")


def test_a_folder_appears_as_a_whole(tmp_path):
    target = tmp_path / "out"
    for text in ("old", "new"):
        with replacing_folder(target) as folder:
            assert folder.parent == tmp_path
            (folder / text).write_text(text)
        assert [file.name for file in target.iterdir()] == [text]
    with pytest.raises(ZeroDivisionError), replacing_folder(target) as folder:
        (folder / "half").write_text("")
        _ = 1 / 0
    assert [file.name for file in target.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [target]
