"""Files of labels in the encodings of their tools, and those that would harm who reads them."""

from unicodedata import normalize

import pytest
from sppnet.data.cleaning import inside_folder
from sppnet.data.errors import InputError
from sppnet.data.label_files import LabelledFiles, declared_size, read_label_json, read_label_xml
from sppnet.data.sample import classes_of, label_map

DECLARED = '<?xml version="1.0" encoding="{}"?>\n<annotation><name>{}</name></annotation>'


@pytest.mark.parametrize(
    ("declared", "written", "name"),
    [
        ("GB2312", "gb2312", "汽车"),
        ("gb2312", "gbk", "镕"),  # a sign that only the larger encoding has
        ("GBK", "gbk", "汽车"),
        ("GB18030", "gb18030", "汽车"),
        ("Big5", "big5", "汽車"),
        ("Shift_JIS", "shift_jis", "自動車"),
        ("Shift_JIS", "cp932", "①"),
        ("EUC-JP", "euc-jp", "自動車"),
        ("EUC-KR", "euc-kr", "자동차"),
        ("EUC-KR", "cp949", "똠"),
        ("windows-1251", "cp1251", "машина"),
        ("ISO-8859-1", "latin1", "é"),
        ("UTF-16", "utf-16", "汽车"),
        ("UTF-16", "utf-8", "汽车"),  # .NET's writers
        ("utf8", "utf-8", "汽车"),
        ("GBK", "utf-8-sig", "汽车"),
    ],
)
def test_xml_in_the_encoding_that_it_declares(tmp_path, declared, written, name):
    (tmp_path / "a.xml").write_bytes(DECLARED.format(declared, name).encode(written))
    assert read_label_xml(tmp_path / "a.xml", "").findtext("name") == name


BOMB = "<!DOCTYPE a [<!ENTITY b 'ha'>" + "".join(f"<!ENTITY b{n} '{f'&b{n - 1};' * 9}'>" for n in range(1, 12)) + "]>"


@pytest.mark.parametrize(
    ("text", "encoding", "message"),
    [
        (BOMB + "<annotation>&b11;</annotation>", "utf-8", "declares XML entities"),
        (BOMB + "<annotation>&b11;</annotation>", "utf-16", "declares XML entities"),
        ('<?xml version="1.0" encoding="UTF-7"?><+ACE-ENTITY b "x"+AD4-', "utf-8", "declares XML entities"),
        ('<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>', "utf-8", "declares XML entities"),
        ('<!DOCTYPE a [<!ENTITY % b SYSTEM "http://localhost/b">%b;]><a/>', "utf-8", "declares XML entities"),
        (f'<!DOCTYPE a [<!ATTLIST b c CDATA "{"d" * 999}">]><a><b/></a>', "utf-8", "declares XML entities or defaults"),
        (DECLARED.format("GBK", "a") + "\x80", "latin1", "not XML"),
        (DECLARED.format("no-such", "a"), "utf-8", "not XML .*unknown encoding"),
        (DECLARED.format("hex", "a"), "utf-8", "not XML"),
        ("<annotation>" + 100_000 * "<a>", "utf-8", "not XML"),
    ],
)
def test_xml_that_cannot_be_used_is_named_in_a_line(tmp_path, text, encoding, message):
    (tmp_path / "a.xml").write_bytes(text.encode(encoding))
    with pytest.raises(InputError, match=rf"a\.xml: {message}") as caught:
        read_label_xml(tmp_path / "a.xml", "a VOC annotation")
    assert "\n" not in str(caught.value)


def test_xml_of_great_depth_is_read(tmp_path):
    depth = 200_000
    (tmp_path / "a.xml").write_text(f"<annotation>{depth * '<a>'}{depth * '</a>'}</annotation>")
    assert len(read_label_xml(tmp_path / "a.xml", "").findall("object")) == 0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (100_000 * b"[" + 100_000 * b"]", "not JSON"),
        (100_000 * b'{"a":', "not JSON"),
        (rb'["\ud83d"]', "not JSON .*surrogates not allowed"),
        (rb'{"\uDE00": 1}', "not JSON .*surrogates not allowed"),
        (b'["\xed\xa0\x80"]', "not JSON"),
        (b"\xff", "not JSON"),
        (b"", "not JSON"),
    ],
)
def test_json_that_cannot_be_used_is_named_in_a_line(tmp_path, data, message):
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(InputError, match=rf"a\.json: {message}.*; expected labels$"):
        read_label_json(tmp_path / "a.json", "labels")


def test_json_in_the_encodings_that_it_may_have(tmp_path):
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        (tmp_path / "a.json").write_bytes('["汽车", "\\ud83d\\ude97"]'.encode(encoding))
        assert read_label_json(tmp_path / "a.json", "") == ["汽车", "🚗"]


def test_a_size_is_two_positive_numbers_of_a_photograph():
    assert declared_size("30", 40.0) == (30, 40)
    assert [declared_size(*size) for size in ((0, 4), (None, 4), (-3, 4), (10**400, 4))] == [None] * 4
    for wrong in ("x", float("inf"), float("nan"), [1]):
        with pytest.raises((ValueError, OverflowError, TypeError)):
            declared_size(wrong, 4)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_files_are_found_in_another_normal_form(tmp_path, form):
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    (tmp_path / normalize(form, "é")).mkdir()
    (tmp_path / normalize(form, "é/한국.jpg")).touch()
    files = LabelledFiles()
    found = files.find(tmp_path / normalize(other, "é/한국.jpg"))
    assert (found.is_file(), found.samefile(tmp_path / normalize(form, "é/한국.jpg"))) == (True, True)
    for missing in ("é/a.jpg", "ü/한국.jpg", f"é/{'한' * 300}.jpg", "\0é"):
        assert files.find(tmp_path / missing).name == (tmp_path / missing).name


def test_of_two_normal_forms_the_written_one_counts(tmp_path):
    names = ["Åé", "Åe\u0301", "A\u030ae\u0301"]
    for name in names[1:]:
        (tmp_path / name).touch()
    if len({path.name for path in tmp_path.iterdir()} & set(names)) < 2:
        pytest.skip("this file system has one normal form")
    files = LabelledFiles()
    assert [files.find(tmp_path / name).name for name in names] == names


def test_class_names_of_another_normal_form_are_the_same():
    assert classes_of(["cafe\u0301", "café", "a"], None) == ("a", "café")
    assert label_map(["cafe\u0301", "a", "café"], ["café"]).tolist() == [0, -1, 0]
    assert label_map(["café"], ["a", "cafe\u0301"]).tolist() == [1]


def test_names_of_photographs_stay_in_their_folder(tmp_path):
    for name in ("a.jpg", "part/a.jpg", "part\\a.jpg", "a..jpg", "Screenshot\u202fAM.png"):
        assert inside_folder(tmp_path, name, tmp_path) == tmp_path / name.replace("\\", "/")
    for name in (
        "",
        ".",
        "..",
        "../a",
        "part/../../a",
        "/etc/a",
        "\\\\host\\a",
        "..\\a",
        "part\\..\\..\\a",
        "C:\\a",
        "C:a",
    ):
        with pytest.raises(InputError, match=r"b\.json: .* leaves the folder"):
            inside_folder(tmp_path, name, tmp_path / "b.json")
    for name in ("a\0", "a\n.jpg", "\x1b[2J"):
        with pytest.raises(InputError, match=r"b\.json: .* has control characters; expected the name of an image"):
            inside_folder(tmp_path, name, tmp_path / "b.json")
