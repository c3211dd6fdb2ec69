from __future__ import annotations

import json

import pytest

from mrs.reporting import text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, "0.00"), (0.012345, "0.0123"), (1.5, "1.50"), (40.26, "40.3"), (402.6, "403"), (1572.4, "1,572"),
        (2.5e8, "2.5e+08"), (-3.0, "-3.00"),
    ],
)  # fmt: skip
def test_three_digits_count(value: float, expected: str) -> None:
    assert text.number(value) == expected


def test_units() -> None:
    assert text.milliseconds(1572.0) == "1,572 ms"
    assert text.milliseconds(119_000.0) == "119 s"
    assert text.memory(611e6) == "583 MiB"
    assert text.memory(512) == "512 bytes"


def test_words() -> None:
    assert [text.plural(count, "round") for count in (1, 1200)] == ["1 round", "1,200 rounds"]
    assert [text.listed(parts) for parts in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("rival openvino left out: no memory", "Rival openvino left out: no memory."),
        ("p99 of 7 samples is little", "p99 of 7 samples is little."),
        ("512x512, batch 1 left out: no memory", "512x512, batch 1 left out: no memory."),
        ("The build warned: it rounds.", "The build warned: it rounds."),
        ("", ""),
    ],
)
def test_a_line_as_a_sentence(line: str, sentence: str) -> None:
    assert text.sentence(line) == sentence


@pytest.mark.parametrize("evil", ["</script>", "<!--", "<script", "&lt;", "\u2028\u2029", "]]>", '"\\'])
def test_json_in_a_page_is_no_markup_and_reads_back(evil: str) -> None:
    written = text.script_json({evil: [evil]})
    assert not set("<>&\u2028\u2029") & set(written)
    assert json.loads(written) == {evil: [evil]}


def test_no_number_that_json_has_not() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        text.script_json(float("nan"))
