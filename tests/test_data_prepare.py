"""Unpacking, and `prepare` as a whole against a real HTTP server on this machine."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from range_server import Recorder, Server, names, serving

from evalkit.datasets.archives import unpack
from evalkit.datasets.prepare import Prepared, prepare
from evalkit.datasets.status import dataset_status
from evalkit.errors import DataError
from evalkit.types import DataFile, DataSet


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving({}) as state:
        yield state


# --------------------------------------------------------------------------------------------------------- archives
def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(members: dict[str, bytes], mode: str = "w:gz", link: str | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        if link is not None:
            info = tarfile.TarInfo("link")
            info.type, info.linkname = tarfile.SYMTYPE, link
            archive.addfile(info)
    return buffer.getvalue()


MEMBERS = {"val2014/a.jpg": b"aaa", "val2014/b.jpg": b"bb"}


# ids: archives hold the time they were made, and a test must have one name in all processes
@pytest.mark.parametrize(
    "content", [zipped(MEMBERS), tarred(MEMBERS), tarred(MEMBERS, "w")], ids=["zip", "tar.gz", "tar"]
)
def test_archives_are_unpacked(tmp_path: Path, content: bytes) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(content)
    (tmp_path / "images" / "val2014").mkdir(parents=True)
    (tmp_path / "images" / "val2014" / "own.jpg").write_bytes(b"mine")
    recorder = Recorder()
    unpack(archive, tmp_path / "images", recorder)
    assert names(tmp_path / "images") == ["val2014"]
    assert names(tmp_path / "images" / "val2014") == ["a.jpg", "b.jpg", "own.jpg"]
    assert (tmp_path / "images" / "val2014" / "a.jpg").read_bytes() == b"aaa"
    assert recorder.phases == [[5, 5]]


def link_in_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        zipped({"ok.txt": b"x", "../evil.txt": b"x"}),
        zipped({"val2014/../../evil.txt": b"x"}),
        zipped({"/evil.txt": b"x"}),
        zipped({"..\\evil.txt": b"x"}),
        zipped({"C:\\evil.txt": b"x"}),
        link_in_zip(),
        tarred({"ok.txt": b"x", "../evil.txt": b"x"}),
        tarred({}, link="/etc/passwd"),
        tarred({}, link="../../evil"),
    ],
    ids=[
        "above",
        "above-from-within",
        "root",
        "backslash",
        "drive",
        "zip-link",
        "tar-above",
        "tar-link",
        "tar-link-above",
    ],
)
def test_a_member_outside_the_folder_is_refused(tmp_path: Path, content: bytes) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(content)
    with pytest.raises(DataError, match=r"archive is not unpacked: its member '.*' would land outside the folder"):
        unpack(archive, tmp_path / "inner" / "images", Recorder())
    assert names(tmp_path) == ["archive", "inner"]
    assert names(tmp_path / "inner") == ["images"]
    assert names(tmp_path / "inner" / "images") == []


def damaged(content: bytes) -> bytes:
    changed = bytearray(content)
    at = changed.index(b"aaaaaaaa")
    changed[at] ^= 0xFF
    return bytes(changed)


BIG = {"val2014/a.jpg": b"aaaaaaaa" * 4000}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (damaged(zipped(BIG)), "is damaged: Bad CRC"),
        (tarred(BIG)[:-40], "is damaged"),
        (tarred({"a": bytes(range(256)) * 4000})[:2000], "is damaged"),
        (tarred(BIG, "w:xz")[:-60], "is damaged"),
        (b"<html>sign in</html>", "is neither a zip nor a tar archive"),
        (zipped(BIG)[:-30], "is neither a zip nor a tar archive"),
    ],
    ids=["zip-damaged", "gz-cut", "gz-cut-early", "xz-cut", "html", "zip-cut"],
)
def test_a_damaged_archive_leaves_nothing(tmp_path: Path, content: bytes, problem: str) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(content)
    with pytest.raises(DataError, match=problem) as caught:
        unpack(archive, tmp_path / "images", Recorder())
    assert "\n" not in str(caught.value)
    assert names(tmp_path / "images") == []


def test_an_interrupted_unpacking_leaves_no_folder_that_looks_whole(tmp_path: Path) -> None:
    class Killed(Recorder):
        def advance(self, count: int) -> None:
            raise KeyboardInterrupt

    archive = tmp_path / "archive.zip"
    archive.write_bytes(zipped(MEMBERS))
    with pytest.raises(KeyboardInterrupt):
        unpack(archive, tmp_path / "images", Killed())
    assert names(tmp_path / "images") == []


# ---------------------------------------------------------------------------------------------------------- prepare
def dataset(server: Server) -> DataSet:
    server.files |= {"/captions.json": b"[]", "/zips/val2014.zip": zipped(MEMBERS)}
    files = (
        DataFile(
            path="coco/annotations/captions.json",
            about="captions",
            alternatives=("captions.json",),
            url=f"{server.root}/captions.json",
            sha256=hashlib.sha256(b"[]").hexdigest(),
        ),
        DataFile(
            path="coco/images/val2014",
            about="images",
            alternatives=("val2014",),
            url=f"{server.root}/zips/val2014.zip",
            extract_to="coco/images",
        ),
        DataFile(path="flickr", about="photos", instructions="Fill in the form."),
    )
    return DataSet(name="Test", homepage="http://example.org", licence="none", files=files)


def problem(entry: Prepared) -> str:
    assert entry.outcome == "failed"
    assert entry.path is None
    assert entry.error is not None
    return entry.error.problem


def test_prepare_gets_everything_and_a_second_time_nothing(server: Server, tmp_path: Path) -> None:
    root = tmp_path / "root"
    prepared = prepare(dataset(server), root, Recorder())
    assert [entry.outcome for entry in prepared] == ["downloaded", "downloaded", "by hand"]
    assert [entry.path for entry in prepared] == [
        root / "coco/annotations/captions.json",
        root / "coco/images/val2014",
        None,
    ]
    assert names(root / "coco/images") == ["val2014"]  # the archive is gone
    assert (root / "coco/images/val2014/a.jpg").read_bytes() == b"aaa"
    server.asked.clear()
    again = prepare(dataset(server), root, Recorder())
    assert [entry.outcome for entry in again] == ["present", "present", "by hand"]
    assert server.asked == []


def test_prepare_leaves_alone_what_lies_in_another_layout(server: Server, tmp_path: Path) -> None:
    (tmp_path / "val2014").mkdir()
    (tmp_path / "captions.json").write_text("[]")
    prepared = prepare(dataset(server), tmp_path, Recorder())
    assert [entry.path for entry in prepared] == [tmp_path / "captions.json", tmp_path / "val2014", None]
    assert server.asked == []


def test_prepare_unpacks_an_archive_that_is_there_and_leaves_it(server: Server, tmp_path: Path) -> None:
    archive = tmp_path / "coco/images/val2014.zip"
    archive.parent.mkdir(parents=True)
    archive.write_bytes(zipped(MEMBERS))
    prepare(dataset(server), tmp_path, Recorder())
    assert names(archive.parent) == ["val2014", "val2014.zip"]
    assert [path for path, _ in server.asked] == ["/captions.json"]


def test_prepare_says_that_an_archive_lacks_the_folder(server: Server, tmp_path: Path) -> None:
    data = dataset(server)
    server.files["/zips/val2014.zip"] = zipped({"other/a.jpg": b"a"})
    prepared = prepare(data, tmp_path, Recorder())
    assert "val2014 is not in it" in problem(prepared[1])


def test_prepare_names_a_root_that_cannot_be_made(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    prepared = prepare(dataset(server), tmp_path / "file" / "root", Recorder())
    assert [entry.outcome for entry in prepared] == ["failed", "failed", "by hand"]
    assert "cannot be written: Not a directory" in problem(prepared[0])


def test_a_failed_download_does_not_keep_the_others_from_theirs(server: Server, tmp_path: Path) -> None:
    data = dataset(server)
    del server.files["/captions.json"]
    prepared = prepare(data, tmp_path, Recorder())
    assert [entry.outcome for entry in prepared] == ["failed", "downloaded", "by hand"]
    assert (
        problem(prepared[0]) == f"{server.root}/captions.json cannot be downloaded: the server answered 404 Not Found."
    )
    assert [entry.error for entry in prepared[1:]] == [None, None]
    assert (tmp_path / "coco/images/val2014/a.jpg").read_bytes() == b"aaa"


def test_status_tells_present_missing_and_begun(server: Server, tmp_path: Path) -> None:
    data = dataset(server)
    (tmp_path / "captions.json").write_text("[]")
    part = tmp_path / "coco/images/val2014.zip.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"12345")
    found = [(entry.path, entry.partial_bytes) for entry in dataset_status(data, tmp_path)]
    assert found == [(tmp_path / "captions.json", 0), (None, 5), (None, 0)]
