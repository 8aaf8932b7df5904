"""Fixtures that the tests of every package share."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import settings

# Read by the thread pools of torch and of scipy's OpenBLAS when they are first imported: see the package's __init__.py.
# Of several processes that test side by side, each computes on one core.
os.environ.setdefault("OMP_NUM_THREADS", "1" if "PYTEST_XDIST_WORKER" in os.environ else "2")
os.environ.setdefault("GOMP_SPINCOUNT", "2000")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# The same examples each time, so that nothing fails by chance; the long profile looks for others.
settings.register_profile("default", deadline=None, max_examples=60, derandomize=True)
settings.register_profile("long", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

ROOT = Path(__file__).resolve().parents[1]
_LOCAL = {"localhost", "127.0.0.1", "::1", "", None}

Image = npt.NDArray[np.float32]


@pytest.fixture(scope="session", autouse=True)
def offline() -> Iterator[None]:
    """Leave the machine without a network, but for servers that a test starts itself."""
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def local_connect(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in _LOCAL:
            raise OSError(f"tests have no network: {address[0]}")
        connect(self, address)

    def local_look_up(host: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name not in _LOCAL:
            raise socket.gaierror(socket.EAI_NONAME, f"tests have no network: {name}")
        return look_up(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", local_connect)
        patch.setattr(socket, "getaddrinfo", local_look_up)
        yield


@pytest.fixture
def told_by_fresh_interpreter() -> Callable[[str], str]:
    """Run code in an interpreter of its own, which has nothing in memory yet, and return what it prints."""

    def run(code: str) -> str:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


@pytest.fixture(scope="session", autouse=True)
def torch_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give torch an empty cache, so that a test sees neither the user's weights nor changes them."""
    home = tmp_path_factory.mktemp("torch-home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(home))
        yield home


@pytest.fixture(autouse=True)
def pace_forgotten(torch_home: Path) -> Iterator[None]:
    """Let no test know how long the runs of another took."""
    yield
    (torch_home / "hub" / "napari-styletransfer" / "pace.json").unlink(missing_ok=True)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Return the folder of real pictures and weights that may lie beside the repository."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("there is no folder of shared pictures beside the repository")
    return folder


@pytest.fixture
def content_image() -> Image:
    """Return a picture with edges, a ramp and flat parts: float32 (48, 64, 3) in [0, 1]."""
    y, x = np.mgrid[:48, :64].astype(np.float32)
    image = np.stack([x / 63, y / 47, np.full_like(x, 0.3)], axis=-1)
    image[(y - 24) ** 2 + (x - 20) ** 2 < 12**2] = (0.9, 0.7, 0.2)
    image[10:40, 42:56] = (0.1, 0.2, 0.5)
    return np.ascontiguousarray(image + _noise(1, image.shape), dtype=np.float32).clip(0, 1)


@pytest.fixture
def style_image() -> Image:
    """Return a picture of slanted waves in two colours: float32 (48, 64, 3) in [0, 1]."""
    y, x = np.mgrid[:48, :64].astype(np.float32)
    wave = 0.5 + 0.5 * np.sin(0.7 * x + 0.4 * y + 2 * np.sin(0.2 * y))
    first, second = np.float32([0.05, 0.15, 0.55]), np.float32([0.95, 0.8, 0.35])
    image = first + wave[..., None] * (second - first)
    return np.ascontiguousarray(image + _noise(2, image.shape), dtype=np.float32).clip(0, 1)


def _noise(seed: int, shape: tuple[int, ...]) -> Image:
    return np.random.default_rng(seed).normal(0, 0.02, shape).astype(np.float32)
