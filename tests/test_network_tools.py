"""The embedded network's tools: training writes what the engine reads, and the judge measures what it says."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("tools.train_compact", reason="the tools lie beside the package in a checkout only")

import safetensors.torch  # noqa: E402
import typer  # noqa: E402

from napari_styletransfer.config import Network, Padding, Pooling, StyleConfig  # noqa: E402
from napari_styletransfer.errors import WeightsError  # noqa: E402
from napari_styletransfer.networks import weights_file  # noqa: E402
from napari_styletransfer.networks.architectures import COMPACT_PLAN, Backbone, compact_stages, receptive_fields  # noqa: E402
from napari_styletransfer.networks.weights import EMBEDDED  # noqa: E402
from napari_styletransfer.nn.frozen_network import FrozenNetwork  # noqa: E402
from tools import judge_network, train_compact  # noqa: E402

SIDE, PLAN = 16, "4,A,6,6"
JUDGE = "models/squeezenet1_1_imagenet_features.safetensors"


@pytest.fixture(autouse=True)
def torch_as_before() -> Iterator[None]:
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(strict)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of pictures in two classes, one red and one blue."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 2)):
        for channel, name in ((0, "red"), (2, "blue")):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 80, (SIDE, SIDE, 3), np.uint8)
                pixels[..., channel] += 150
                Image.fromarray(pixels).save(folder / split / name / f"{number}.png")
    return folder


def trained(images: Path, output: Path, **options: Any) -> Path:
    train_compact.main(images, output, **{"plan": PLAN, "epochs": 1, "threads": 1, **options})
    return output


def described(plan: str = PLAN, pool: str = "average") -> Backbone:
    return Backbone(Network.COMPACT, compact_stages(train_compact.parsed(plan), pool), {}, {})


def archived(folder: Path, path: Path) -> Path:
    with tarfile.open(path, "w") as archive:
        archive.add(folder, "pictures")
    return path


def test_the_engine_reads_what_training_writes(pictures: Path, tmp_path: Path) -> None:
    path = trained(pictures, tmp_path / "tiny.safetensors")

    expected = described().state_dict_shapes()
    found = weights_file.select(weights_file.read(path), expected, network="compact", origin="here")
    assert found.keys() == expected.keys()
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["bytes"] == path.stat().st_size
    assert card["pictures"] == {"train": 12, "val": 4, "classes": 2}
    assert card["recipe"]["plan"] == PLAN
    assert card["parameters"] == sum(tensor.numel() for tensor in found.values())
    assert len(card["history"]) == 1


def test_a_seed_gives_the_same_file_from_a_folder_and_from_a_tar_file(pictures: Path, tmp_path: Path) -> None:
    first = trained(pictures, tmp_path / "first.safetensors").read_bytes()
    tar = archived(pictures, tmp_path / "pictures.tar")

    assert trained(tar, tmp_path / "second.safetensors").read_bytes() == first
    assert trained(tar, tmp_path / "other.safetensors", seed=1).read_bytes() != first


def test_the_head_helps_to_learn_but_is_not_written(pictures: Path, tmp_path: Path) -> None:
    with_head = weights_file.read(trained(pictures, tmp_path / "with.safetensors", head="8,5", epochs=3))
    without = weights_file.read(trained(pictures, tmp_path / "without.safetensors", head="", epochs=3))

    assert {key: tensor.shape for key, tensor in with_head.items()} == {k: t.shape for k, t in without.items()}
    assert any(not torch.equal(with_head[key], without[key]) for key in without)
    network = train_compact.Compact(train_compact.parsed(PLAN), [8, 5], "average", 2)
    assert network.head.in_features == 5
    with pytest.raises(typer.BadParameter, match="only widths"):
        trained(pictures, tmp_path / "none.safetensors", head="8,A,5")


@pytest.mark.parametrize("pool", ["average", "max"])
def test_the_folded_network_is_the_one_that_was_trained(pool: str) -> None:
    torch.manual_seed(0)
    network = train_compact.Compact(train_compact.parsed(PLAN), [5], pool, 2)
    for norm in network.norms.values():
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    network.eval()
    image = torch.rand(1, 3, SIDE, SIDE)
    plan, last = described(pool=pool), "relu2_2"
    frozen = FrozenNetwork(plan, network.folded(), {last}, pooling=Pooling.NATIVE, padding=Padding.ZERO)

    maps = judge_network.feature_maps(frozen, {last: receptive_fields(plan)[last]}, image[0].permute(1, 2, 0).numpy())
    with torch.no_grad():
        wanted = network.features(train_compact.normalised(image))
    assert wanted.abs().max() > 0
    torch.testing.assert_close(maps[last], wanted, atol=1e-5, rtol=1e-4)


def test_augmentation_changes_pictures_but_not_their_shape_or_range() -> None:
    batch = torch.rand(8, 3, SIDE, SIDE)

    for strong in (False, True):
        changed = train_compact.augmented(batch, 12, strong, torch.Generator().manual_seed(0))
        assert changed.shape == (8, 3, 12, 12)
        assert 0 <= changed.min() < changed.max() <= 1 + 1e-6


@pytest.mark.parametrize(("plan", "told"), [("4,B", "write widths"), ("4,A", "end with a width"), ("0", "at least 1")])
def test_a_wrong_plan_is_refused(plan: str, told: str, pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match=told):
        trained(pictures, tmp_path / "none.safetensors", plan=plan)


def test_a_plan_with_more_groups_than_the_pictures_have_room_for_is_refused(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match=r"12 pixels are too small .* needs 16"):
        trained(pictures, tmp_path / "none.safetensors", plan="4,A,4,A,4,A,4,A,4")


def test_pictures_that_cannot_serve_are_told(pictures: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(typer.BadParameter, match="no pictures in train/CLASS/"):
        trained(empty, tmp_path / "none.safetensors")

    (tmp_path / "notes.txt").write_text("not pictures")
    with pytest.raises(typer.BadParameter, match="neither a folder nor a tar file"):
        trained(tmp_path / "notes.txt", tmp_path / "none.safetensors")

    memory = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE - 2)).save(memory, "PNG")
    for content, told in ((b"broken", "7.png in .* is not a picture"), (memory.getvalue(), "square pictures")):
        folder = tmp_path / told[:3]
        with tarfile.open(archived(pictures, tmp_path / "copy.tar")) as archive:
            archive.extractall(folder, filter="data")
        (folder / "pictures" / "train" / "red" / "7.png").write_bytes(content)
        with pytest.raises(typer.BadParameter, match=told):
            trained(folder, tmp_path / "none.safetensors")


def test_the_plan_is_read_off_the_weights() -> None:
    assert judge_network.plan_of(weights_file.read(Path(str(EMBEDDED)))) == COMPACT_PLAN


def wide(path: Path, plan: tuple[int | str, ...], pool: str) -> Path:
    """Write random weights of a plan."""
    torch.manual_seed(0)
    shapes = Backbone(Network.COMPACT, compact_stages(plan, pool), {}, {}).state_dict_shapes()
    tensors = {
        key: torch.randn(shape) * (2 / max(1, int(np.prod(shape[1:])))) ** 0.5 if len(shape) > 1 else torch.zeros(shape)
        for key, shape in shapes.items()
    }
    safetensors.torch.save_file(tensors, path, {"pool": pool})
    return path


def test_candidates_of_other_widths_and_pooling_run_through_the_engine(tmp_path: Path) -> None:
    plan = tuple(item if item == "A" else 8 for item in COMPACT_PLAN)
    candidate = judge_network.Candidate.read(wide(tmp_path / "narrow.safetensors", plan, "max"))
    random = np.random.default_rng(0)
    content, style = (random.random((48, 48, 3), np.float32) for _ in range(2))
    config = StyleConfig(network="compact", size=48, iterations=2, device="cpu", precision="float32")

    end, own, fitted = judge_network.stylised(candidate, config, content, style)

    assert candidate.network.stages == compact_stages(plan, "max")
    assert end.iterations == 2
    assert np.isfinite(end.image).all()
    np.testing.assert_allclose(own, content, atol=1e-6)
    assert fitted.shape == style.shape


def test_a_candidate_with_other_layers_is_refused(tmp_path: Path) -> None:
    path = wide(tmp_path / "short.safetensors", (4, "A", 6, 6), "average")

    with pytest.raises(WeightsError, match=r"'conv1_2\.weight' is missing"):
        judge_network.Candidate.read(path)


@pytest.fixture(scope="module")
def judge(shared_dir: Path) -> judge_network.Judge:
    if not (shared_dir / JUDGE).is_file():
        pytest.skip("there are no pretrained weights of SqueezeNet beside the repository")
    return judge_network.Judge(shared_dir / JUDGE)


def test_the_style_itself_is_at_distance_zero_and_the_content_at_one(judge: judge_network.Judge) -> None:
    random = np.random.default_rng(0)
    content = random.random((64, 64, 3), np.float32)
    style = np.repeat(np.repeat(random.random((16, 16, 3), np.float32), 4, 0), 4, 1)

    assert judge.verdict(content, content, style) == pytest.approx((1, 1), abs=1e-5)
    distance, similarity = judge.verdict(style, content, style)
    assert distance == pytest.approx(0, abs=1e-6)
    assert abs(similarity) < 0.9


def test_style_distance_does_not_see_where_things_are(judge: judge_network.Judge) -> None:
    random = np.random.default_rng(1)
    content, style = (np.repeat(random.random((64, 16, 3), np.float32), 4, 1) for _ in range(2))

    distance, _ = judge.verdict(np.roll(style, 24, axis=0), content, style)
    assert distance < 0.5


def test_a_table_ends_with_the_mean_of_each_network() -> None:
    verdicts = [
        judge_network.Verdict("a", "one", "two", 256, 0.1, 0.5, 10, 1.0),
        judge_network.Verdict("a", "one", "three", 256, 0.3, 0.7, 20, 3.0),
    ]

    assert judge_network.table(verdicts).splitlines()[-1] == "| **a** | mean of 2 | 256 | 0.200 | 0.600 | 15 | 2.0 |"


def test_a_contact_sheet_shows_every_picture_under_its_caption() -> None:
    red, grey = np.zeros((30, 60, 3), np.float32), np.full((60, 30, 3), 0.5, np.float32)
    red[..., 0] = 1

    sheet = np.asarray(judge_network.contact_sheet([[("red", red), ("grey", grey)]], side=40))

    assert tuple(sheet[30, 20]) == (255, 0, 0)
    assert tuple(sheet[30, 66]) == (128, 128, 128)
    assert tuple(sheet[30, 43]) == (255, 255, 255)
