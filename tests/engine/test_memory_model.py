"""What a plan says of memory is what a run takes: measured in fresh processes, on Linux."""

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

from napari_styletransfer.config import Network, Precision
from napari_styletransfer.devices.device import choose_dtype
from napari_styletransfer.networks.architectures import RGB, backbone

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("measured_run.py")

AT_HOME_IN_BFLOAT16 = pytest.mark.skipif(
    choose_dtype("cpu", Precision.AUTO) is not torch.bfloat16,
    reason="where the processor has no arithmetic for bfloat16, torch converts maps, which no plan counts",
)


def random_weights(network: Network, path: Path) -> str:
    """Write weights that keep features of about the same size from layer to layer."""
    whole = backbone(network)
    named = {name for name in (*whole.style_layers, *whole.content_layers) if name != RGB}
    torch.manual_seed(0)
    tensors = {}
    for key, shape in whole.truncated(named).state_dict_shapes().items():
        gain = (2 / torch.Size(shape[1:]).numel()) ** 0.5 if len(shape) == 4 else 0.0
        tensors[key] = gain * torch.randn(shape)
    save_file(tensors, path)
    return str(path)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")
@pytest.mark.parametrize(
    ("network", "width", "height", "fields"),
    [
        ("compact", 384, 384, {}),
        ("compact", 512, 448, {"block_size": 192}),
        # What is left of this keeps a part of the blocks' recordings between the passes.
        ("compact", 512, 448, {"block_size": 192, "memory_limit": 0.2}),
        ("squeezenet1_1", 448, 384, {}),
        # Far larger than they are worked on at: the pictures themselves are what it takes.
        pytest.param("compact", 2048, 1536, {"size": 384}, marks=pytest.mark.slow),
        pytest.param("compact", 768, 768, {}, marks=pytest.mark.slow),
        pytest.param("compact", 1024, 1024, {"memory_limit": 0.47}, marks=pytest.mark.slow),
        pytest.param("vgg19", 256, 256, {}, marks=pytest.mark.slow),
        pytest.param("vgg19", 320, 320, {"precision": "bfloat16"}, marks=[pytest.mark.slow, AT_HOME_IN_BFLOAT16]),
    ],
)
def test_a_run_takes_the_memory_that_is_planned(
    network: str, width: int, height: int, fields: dict[str, Any], tmp_path: Path
) -> None:
    settings = {"network": network, "size": None, "scales": 1, "iterations": 2, "device": "cpu", "precision": "float32"}
    if network != Network.COMPACT:
        settings["weights"] = random_weights(Network(network), tmp_path / "random.safetensors")

    command = [sys.executable, str(SCRIPT), json.dumps(settings | fields), str(width), str(height)]
    run = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])},
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stderr
    planned, measured, blocks = (int(word) for word in run.stdout.split())
    assert (blocks > 1) == bool(fields.keys() & {"block_size", "memory_limit"})
    assert 0.85 <= planned / measured <= 1.15, f"planned {planned >> 20} MiB, measured {measured >> 20} MiB"
