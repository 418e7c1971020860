"""Names that users give become file names that do no harm where they are saved."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.intake import file_name


@pytest.mark.parametrize(
    ("given_name", "kept"),
    [
        ("../../etc/passwd.onnx", "passwd.onnx"), ("..\\..\\a.onnx", "a.onnx"), ("-rf.onnx", "rf.onnx"),
        (".bashrc", "bashrc"), (". -.-x", "x"), ("a\0b.onnx", "a_b.onnx"), ("网络.onnx", "网络.onnx"),
        ("\u202eexe.onnx", "_exe.onnx"), ("..", "model.onnx"), ("---", "model.onnx"), ("", "model.onnx"),
    ],
)  # fmt: skip
def test_what_is_kept_of_a_name(given_name: str, kept: str) -> None:
    assert file_name(given_name, "model.onnx") == kept


@given(st.text())
def test_no_name_is_a_path_an_option_or_hidden(text: str) -> None:
    name = file_name(text, "model.onnx")
    assert name.isprintable() and not set(name) & set('/\\:*?"<>|') and name[0] not in ".- "
    assert len(name.encode()) <= 255 and file_name(name, "model.onnx") == name
