"""Download, against a real HTTP server on this machine: progress, resuming, retries, checks."""

from __future__ import annotations

import errno
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from range_server import Recorder, Server, names, serving

from evalkit.datasets import disk, download
from evalkit.datasets.download import Source, part_of
from evalkit.errors import DataError

CONTENT = bytes(range(256)) * 20_000  # 5 MB, many chunks


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving({"/data.bin": CONTENT}) as state:
        yield state


def get(server: Server, target: Path, recorder: Recorder | None = None, **known: object) -> Recorder:
    recorder = recorder or Recorder()
    source = Source(url=f"{server.root}/data.bin", by_hand="Get it by hand.", **known)
    download.download(source, target, recorder, attempts=3, pause=lambda seconds: None)
    return recorder


# -------------------------------------------------------------------------------------------------------- downloads
def test_download_with_progress_and_checksum(server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "new" / "data.bin"
    recorder = get(server, target, sha256=hashlib.sha256(CONTENT).hexdigest(), size_bytes=len(CONTENT))
    assert target.read_bytes() == CONTENT
    assert recorder.labels == ["data.bin"]
    assert recorder.phases == [[len(CONTENT), len(CONTENT)]]
    assert recorder.open == 0
    assert names(target.parent) == ["data.bin"]
    assert server.asked == [("/data.bin", None)]
    assert capfd.readouterr() == ("", "")  # the core prints nothing


def test_without_a_known_checksum_nothing_is_printed_either(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    get(server, tmp_path / "data.bin")
    assert capfd.readouterr() == ("", "")


def test_a_cut_connection_is_resumed(server: Server, tmp_path: Path) -> None:
    server.cut_after = [1_500_000, 1_000_000]
    recorder = get(server, tmp_path / "data.bin", sha256=hashlib.sha256(CONTENT).hexdigest())
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    starts = [0 if asked is None else int(asked[6:-1]) for _, asked in server.asked]
    assert starts[0] == 0
    assert 0 < starts[1] <= 1_500_000
    assert starts[1] < starts[2] <= starts[1] + 1_000_000
    assert [phase[0] for phase in recorder.phases] == [len(CONTENT)] * 3
    assert recorder.phases[-1] == [len(CONTENT), len(CONTENT)]
    assert len(recorder.notes) == 2
    assert names(tmp_path) == ["data.bin"]


def test_a_killed_download_is_resumed_by_the_next(server: Server, tmp_path: Path) -> None:
    class Killed(Recorder):
        def advance(self, count: int) -> None:
            super().advance(count)
            raise KeyboardInterrupt

    target = tmp_path / "data.bin"
    with pytest.raises(KeyboardInterrupt):
        get(server, target, Killed())
    have = part_of(target).stat().st_size
    assert 0 < have < len(CONTENT)
    assert not target.exists()
    recorder = get(server, target)
    assert target.read_bytes() == CONTENT
    assert server.asked[-1] == ("/data.bin", f"bytes={have}-")
    assert recorder.phases == [[len(CONTENT), len(CONTENT)]]
    assert names(tmp_path) == ["data.bin"]


def begun(target: Path, have: bytes, url: str, validator: str | None = '"v1"') -> None:
    part_of(target).write_bytes(have)
    part_of(target).with_suffix(".part.json").write_text(json.dumps({"url": url, "validator": validator}))


def test_a_part_of_another_version_is_not_spliced(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "data.bin"
    begun(target, b"old" * 1000, f"{server.root}/data.bin", validator='"v0"')
    recorder = get(server, target)
    assert target.read_bytes() == CONTENT
    assert recorder.notes == ["data.bin: cannot be continued at its source; starting from the beginning"]


def test_a_part_of_another_version_is_not_spliced_later_either(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "data.bin"
    begun(target, b"old" * 1000, f"{server.root}/data.bin", validator='"v0"')
    usage = disk.shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    with monkeypatch.context() as full:
        full.setattr(disk.shutil, "disk_usage", lambda folder: usage)
        with pytest.raises(DataError, match="are free in"):
            get(server, target)
    get(server, target)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(("url", "validator"), [("http://elsewhere/data.bin", '"v1"'), (None, None)])
def test_a_part_of_unknown_origin_is_not_spliced(
    server: Server, tmp_path: Path, url: str | None, validator: str | None
) -> None:
    target = tmp_path / "data.bin"
    begun(target, b"old" * 1000, url or f"{server.root}/data.bin", validator)
    get(server, target)
    assert target.read_bytes() == CONTENT
    assert server.asked == [("/data.bin", None)]


def test_a_part_without_state_is_not_spliced(server: Server, tmp_path: Path) -> None:
    part_of(tmp_path / "data.bin").write_bytes(b"old")
    get(server, tmp_path / "data.bin")
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_a_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    server.ranges, server.cut_after = False, [2_000_000]
    recorder = get(server, tmp_path / "data.bin")
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert [phase[1] for phase in recorder.phases][-1] == len(CONTENT)


def test_a_weak_etag_is_not_used_for_ranges(server: Server, tmp_path: Path) -> None:
    server.etag, server.cut_after = 'W/"v1"', [2_000_000]
    get(server, tmp_path / "data.bin")
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert [asked for _, asked in server.asked] == [None, None]


def test_a_complete_part_is_recognised(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "data.bin"
    begun(target, CONTENT, f"{server.root}/data.bin")
    get(server, target, sha256=hashlib.sha256(CONTENT).hexdigest())
    assert target.read_bytes() == CONTENT
    assert server.asked == [("/data.bin", f"bytes={len(CONTENT)}-")]


def test_a_part_longer_than_the_file_is_thrown_away(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "data.bin"
    begun(target, CONTENT + b"more", f"{server.root}/data.bin")
    get(server, target)
    assert target.read_bytes() == CONTENT


def test_a_passing_server_error_is_tried_again(server: Server, tmp_path: Path) -> None:
    server.statuses = [503, 429]
    recorder = get(server, tmp_path / "data.bin")
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert recorder.notes == [
        "data.bin: the server answered 503 Service Unavailable; trying again",
        "data.bin: the server answered 429 Too Many Requests; trying again",
    ]


def test_a_lasting_server_error_keeps_what_came(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "data.bin"
    begun(target, CONTENT[:1000], f"{server.root}/data.bin")
    server.statuses = [500] * 3
    with pytest.raises(
        DataError, match=r"the server answered 500 .*; 1,000 bytes are kept in .*data\.bin\.part\."
    ) as caught:
        get(server, target)
    assert "Run the same command again to continue." in caught.value.remedy
    assert part_of(target).stat().st_size == 1000
    assert len(server.asked) == 3


def test_404_says_what_to_do_by_hand(server: Server, tmp_path: Path) -> None:
    server.files.clear()
    with pytest.raises(
        DataError, match=r"/data\.bin cannot be downloaded: the server answered 404 .* Get it by hand\."
    ):
        get(server, tmp_path / "data.bin")
    assert len(server.asked) == 1
    assert names(tmp_path) == []


def test_a_wrong_checksum_keeps_nothing(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the SHA-256 of what came is not the known one.*Nothing was kept.*by hand\."):
        get(server, tmp_path / "data.bin", sha256="0" * 64)
    assert names(tmp_path) == []


def test_another_size_than_the_known_one_is_refused_before_it_is_loaded(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the server's file has 5,120,000 bytes, the known one 7\."):
        get(server, tmp_path / "data.bin", size_bytes=7)
    assert not part_of(tmp_path / "data.bin").exists()


def test_no_server_is_named(tmp_path: Path) -> None:
    source = Source(url="http://127.0.0.1:9/data.bin", by_hand="Get it by hand.")
    waits: list[float] = []
    with pytest.raises(DataError, match=r"127\.0\.0\.1:9/data\.bin cannot be downloaded: .*refused") as caught:
        download.download(source, tmp_path / "data.bin", Recorder(), attempts=3, pause=waits.append)
    assert "\n" not in str(caught.value)
    assert waits == [1.0, 2.0]


def test_an_address_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gopher://x/data\.bin cannot be downloaded"):
        download.download(Source(url="gopher://x/data.bin"), tmp_path / "data.bin", Recorder())


def test_too_little_space_is_said_before_it_is_filled(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = disk.shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(DataError, match=r"data\.bin needs 0\.01 GB, but only 0\.00 GB are free in"):
        get(server, tmp_path / "data.bin")
    assert not part_of(tmp_path / "data.bin").exists()


def test_a_full_disk_is_said_and_the_part_is_kept(server: Server, tmp_path: Path) -> None:
    class Full(Recorder):
        def advance(self, count: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DataError, match=r"The disk is full: .*data\.bin could not be written\. Free some space"):
        get(server, tmp_path / "data.bin", Full())
    assert part_of(tmp_path / "data.bin").exists()
    get(server, tmp_path / "data.bin")
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_a_target_that_cannot_be_written_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot be written: .*Name another data root"):
        get(server, tmp_path / "file" / "data.bin")


def test_a_slow_server_is_no_error(server: Server, tmp_path: Path) -> None:
    class Slow(Recorder):
        def advance(self, count: int) -> None:
            super().advance(count)
            time.sleep(0.02)

    assert get(server, tmp_path / "data.bin", Slow()).notes == []
