"""The benchmarks compare like with like: the textbook loop has the engine's loss, and the tables come out."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("benchmarks", reason="the benchmarks lie beside the package in a checkout only")
torch = pytest.importorskip("torch")

from benchmarks import jobs  # noqa: E402
from benchmarks.__main__ import main, write  # noqa: E402
from benchmarks.convolutions import Convolutions  # noqa: E402
from benchmarks.memory import Peak  # noqa: E402
from benchmarks.setting import Case, Setting, save_orthogonal, save_pictures  # noqa: E402
from benchmarks.suite import Measurement, Suite, in_process  # noqa: E402
from benchmarks.textbook import Textbook  # noqa: E402
from napari_styletransfer.config import Network  # noqa: E402

SIDE = 48


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("benchmarks")
    save_pictures(path, {"histology"}, {"riso-dots"})
    return path


def case_of(folder: Path, network: str, height: int = SIDE, width: int = SIDE, **fields: Any) -> Case:
    weights = folder / f"{network}.safetensors"
    if network != "compact" and not weights.exists():
        save_orthogonal(weights, Network(network))
    return Case(
        network,
        height,
        width,
        str(folder / "content-histology.npy"),
        str(folder / "style-riso-dots.npy"),
        None if network == "compact" else str(weights),
        {"device": "cpu", "precision": "float32", **fields},
    )


@pytest.mark.parametrize(
    ("network", "fields"),
    [
        ("compact", {}),
        ("compact", {"padding": "replicate", "balance": 0.2}),
        ("vgg19", {}),
        ("vgg19", {"pooling": "native", "padding": "zero"}),
        ("squeezenet1_1", {}),
    ],
)
def test_textbook_loss_and_gradient_are_the_engines(folder: Path, network: str, fields: dict[str, Any]) -> None:
    setting = Setting(case_of(folder, network, SIDE, SIDE + 5, **fields))
    textbook = Textbook(setting.prepared.plan.config, setting.tensors())
    textbook.aim(setting.content_tensor(), setting.style_tensor())
    image = setting.start().lerp(setting.content_tensor(), 0.5).requires_grad_()
    loss = textbook(image)
    (gradient,) = torch.autograd.grad(loss, image)

    found = setting.objective(setting.network())(image.detach())

    assert found.losses["content"] + found.losses["style"] == pytest.approx(loss.item(), rel=1e-4)
    assert found.losses["range"] == 0
    error = torch.linalg.vector_norm(found.gradient - gradient) / torch.linalg.vector_norm(gradient)
    assert error < 1e-3


def test_textbook_loop_lowers_its_loss_from_the_content(folder: Path) -> None:
    result = jobs.textbook(asdict(case_of(folder, "compact")), evaluations=8)
    assert len(result["losses"]) == len(result["seconds"]) == 8
    assert result["losses"][-1] < 0.9 * result["losses"][0]
    assert result["seconds"] == sorted(result["seconds"])


def test_targets_are_hit_in_order_and_one_out_of_reach_is_not(folder: Path) -> None:
    first, second, third = jobs.reach(asdict(case_of(folder, "compact")), [1e9, 0.5, 1e-9], evaluations=12)["hits"]
    assert first[0] <= second[0] <= 13
    assert third is None


def test_convolutions_alone_count_their_operations() -> None:
    from napari_styletransfer.engine.backbones import backbone

    whole = backbone(Network.COMPACT).truncated({"relu1_2"})
    convolutions = Convolutions(whole, 10, 7)
    convolutions()
    assert convolutions.operations == 2 * 2 * 9 * (3 * 16 + 16 * 16) * 10 * 7


@pytest.mark.skipif("sys.platform != 'linux'", reason="elsewhere the peak cannot be told")
def test_peak_counts_what_was_freed_again() -> None:
    peak = Peak("cpu")
    torch.ones(1 << 24).sum()
    found = peak.bytes()
    assert found is not None
    assert 0.9 * 2**26 < found < 2 * 2**26


TINY = Suite(
    evaluations=3,
    rounds=1,
    steps=2,
    speed=(("compact", SIDE),),
    reach=(("compact", SIDE),),
    ablation=(("compact", SIDE),),
    blocks=(("compact", 160, 64),),
)


def directly(job: str, **arguments: Any) -> dict[str, Any]:
    # Through JSON, as between processes; VGG-19's orthogonal weights are not needed here.
    return json.loads(json.dumps(jobs.JOBS[job](**json.loads(json.dumps({**arguments, **_NO_NETWORKS.get(job, {})})))))


_NO_NETWORKS: dict[str, dict[str, Any]] = {"prepare": {"networks": []}}


def test_a_run_prints_and_keeps_every_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told: list[str] = []
    measurement = Measurement(TINY, "cpu", tmp_path, directly, told.append)
    write(measurement, ("speed", "reach", "ablation", "blocks"), tmp_path / "output")

    text = (tmp_path / "output" / "results.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out.split() == text.split()
    tables = text.split("\n## ")[1:]
    assert [len([line for line in table.splitlines() if line.startswith("|")]) for table in tables] == [3, 4, 11, 3]
    for table in tables:
        lines = [line for line in table.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) == 1
    results = json.loads((tmp_path / "output" / "results.json").read_text(encoding="utf-8"))
    assert results["blocks"][0]["blocks"] == 9
    assert results["blocks"][0]["area"] > 1
    assert told


def test_a_job_runs_in_a_process_of_its_own() -> None:
    machine = in_process("machine", device="cpu")
    assert machine["device"] == "cpu"
    assert machine["matrix_rate"] > 0


@pytest.mark.slow
def test_a_job_that_fails_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="machine"):
        in_process("machine", device="cuda:99")
    assert "There is no device" in capfd.readouterr().err


def test_too_few_evaluations_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--evaluations", "1"])
    assert "at least 2" in capsys.readouterr().err
