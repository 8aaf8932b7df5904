"""Every network and both optimisers run in a viewer that OpenGL has drawn.

With a software OpenGL (Mesa's), the compiler that it brings and the one that torch's compiler imports do not live in
one process: it ends in a segmentation fault, and the user's layers are gone. So the test is a process, and asks at its
end that nothing of the kind was imported.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from napari_styletransfer.config import Network
from napari_styletransfer.networks.architectures import backbone

SCRIPT = Path(__file__).with_name("drawn_viewer.py")
SHORT = {"iterations": 2, "coarse_iterations": 1, "device": "cpu"}


@pytest.fixture(scope="module")
def made_weights(tmp_path_factory: pytest.TempPathFactory) -> dict[Network, Path]:
    """Return files of random weights, as deep as the default layers, of the networks that would be downloaded."""
    generator = torch.Generator().manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    files = {}
    for network in (Network.VGG16, Network.SQUEEZENET):
        whole = backbone(network)
        shapes = whole.truncated({*whole.style_layers, *whole.content_layers}).state_dict_shapes()
        files[network] = folder / f"{network}.safetensors"
        tensors = {key: torch.randn(shape, generator=generator) * 0.05 for key, shape in shapes.items()}
        save_file(tensors, files[network])
    return files


def runs_in_a_drawn_viewer(runs: list[dict[str, Any]]) -> dict[str, Any]:
    ended = subprocess.run(
        [sys.executable, str(SCRIPT), json.dumps(runs, default=str)],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "NAPARI_CATCH_ERRORS": "0"},
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    return json.loads(ended.stdout.splitlines()[-1])


def test_all_networks_and_adam_run_after_opengl_has_drawn(made_weights: dict[Network, Path]) -> None:
    runs = [
        {**SHORT, "network": "vgg19"},
        {**SHORT, "network": "vgg19", "optimizer": "adam"},
        {**SHORT, "network": "vgg16", "weights": made_weights[Network.VGG16]},
        {**SHORT, "network": "squeezenet1_1", "weights": made_weights[Network.SQUEEZENET]},
        {**SHORT, "network": "compact", "optimizer": "adam"},
    ]

    told = runs_in_a_drawn_viewer(runs)

    assert told["drawn"] > 50  # not an empty window
    assert [run["layers"] for run in told["runs"]] == [3, 4, 5, 6, 7]
    assert all(run["spread"] > 0 for run in told["runs"])
    assert told["loaded"] == []
