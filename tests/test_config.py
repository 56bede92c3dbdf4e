"""A params file is whole, typed and checked, and every mistake is one line that names the key."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from patchdm.config import Params, Section, check_counts, load_params, params_hash
from patchdm.errors import PatchDMError

REPO = Path(__file__).parents[1]
PRESETS = sorted((REPO / "presets").glob("*.yaml"))


@pytest.fixture
def values() -> dict[str, Any]:
    """Return the values of params.yaml, to be changed."""
    return YAML(typ="safe", pure=True).load(REPO / "params.yaml")


def load(values: object, folder: Path) -> Params:
    """Write values to a params file and load it."""
    text = io.StringIO()
    YAML(typ="safe", pure=True).dump(values, text)
    return load_text(text.getvalue(), folder)


def load_text(text: str, folder: Path) -> Params:
    (folder / "params.yaml").write_text(text)
    return load_params(folder / "params.yaml")


def refusal(values: object, folder: Path) -> str:
    """Return the one line with which the values are refused, after the file's name."""
    with pytest.raises(PatchDMError) as error:
        load(values, folder)
    return one_line(error.value, folder / "params.yaml")


def one_line(error: PatchDMError, path: Path) -> str:
    name, _, message = str(error).partition(": ")
    assert name == str(path)
    assert "\n" not in message
    return message


def test_params_yaml_is_the_demo_preset():
    assert (REPO / "params.yaml").read_bytes() == (REPO / "presets/demo.yaml").read_bytes()


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_presets_are_valid(preset: Path):
    load_params(preset)


def test_values_arrive(values: dict[str, Any], tmp_path: Path):
    params = load(values, tmp_path)
    assert params.model_dump() == values
    assert params.rows * params.model.patch_size == params.data.height
    assert params.cols * params.model.patch_size == params.data.width


def test_params_are_frozen(values: dict[str, Any], tmp_path: Path):
    params = load(values, tmp_path)
    with pytest.raises(ValidationError, match="frozen"):
        params.train.batch_size = 1


def test_unknown_key(values: dict[str, Any], tmp_path: Path):
    values["train"]["lr"] = 1.0
    assert refusal(values, tmp_path) == "train.lr: unknown key"


def test_missing_key(values: dict[str, Any], tmp_path: Path):
    del values["train"]["batch_size"]
    assert refusal(values, tmp_path) == "train.batch_size: missing"


def test_missing_section(values: dict[str, Any], tmp_path: Path):
    del values["latent"]
    assert refusal(values, tmp_path) == "latent: missing"


@pytest.mark.parametrize(
    ("section", "key", "value", "allowed"),
    [
        ("train", "batch_size", "64", "valid integer"),
        ("train", "batch_size", 1.5, "valid integer"),
        ("train", "batch_size", True, "valid integer"),
        ("train", "batch_size", 0, "greater than 0"),
        ("train", "learning_rate", "fast", "valid number"),
        ("train", "learning_rate", float("nan"), "finite number"),
        ("train", "learning_rate", float("inf"), "finite number"),
        ("data", "flips", "yes", "valid boolean"),
        ("data", "views", 0, "greater than 0"),
        ("data", "view_scale", [0.5], "at least 2 items"),
        ("data", "test_fraction", 1.0, "less than 1"),
        ("model", "channels", [], "at least 1 item"),
        ("model", "code", "tables", "'table', 'encoder' or 'none'"),
    ],
)
def test_wrong_value(
    values: dict[str, Any], tmp_path: Path, section: str, key: str, value: object, allowed: str
):
    values[section][key] = value
    message = refusal(values, tmp_path)
    assert message.startswith(f"{section}.{key}: found {value!r}, ")
    assert allowed in message


@pytest.mark.parametrize(("least", "most"), [(0.9, 0.5), (0.0, 1.0), (0.5, 1.1)])
def test_wrong_scales_of_views(values: dict[str, Any], tmp_path: Path, least: float, most: float):
    values["data"]["view_scale"] = [least, most]
    message = refusal(values, tmp_path)
    assert message.startswith(
        "data.view_scale" if least < most else "data: view_scale is [0.9, 0.5]"
    )
    assert "\n" not in message


def test_further_mistakes_are_counted(values: dict[str, Any], tmp_path: Path):
    values["train"]["lr"] = values["train"]["momentum"] = 1.0
    del values["base"]["seed"]
    assert refusal(values, tmp_path) == "base.seed: missing (and 2 more)"


@pytest.mark.parametrize("side", ["width", "height"])
def test_size_is_a_multiple_of_the_patch(values: dict[str, Any], tmp_path: Path, side: str):
    patch_size = values["model"]["patch_size"]
    values["data"][side] += 1
    found = values["data"][side]
    assert refusal(values, tmp_path) == (
        f"data.{side} is {found}, expected multiples of model.patch_size = {patch_size}"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": 12, "channels": [8, 8, 8]}, "patch_size is 12, expected multiples of"),
        ({"channels": [20, 40], "norm_groups": 8}, "channels is 20, expected multiples of"),
        ({"embed_dim": 6}, "embed_dim is 6, expected multiples of 4"),
        ({"channels": [8, 8], "attention_levels": [2]}, "attention_levels has 2, expected 0 to"),
    ],
)
def test_network_sizes_fit(
    values: dict[str, Any], tmp_path: Path, changes: dict[str, Any], message: str
):
    values["model"] |= changes
    assert refusal(values, tmp_path).startswith(f"model: {message}")


def test_batch_is_not_longer_than_the_training(values: dict[str, Any], tmp_path: Path):
    values["train"] |= {"batch_size": 8, "images_seen": 7}
    assert refusal(values, tmp_path).startswith("train.batch_size is 8, expected at most")


def test_kid_subset_is_not_larger_than_the_samples(values: dict[str, Any], tmp_path: Path):
    values["sample"]["num_images"] = 3
    values["evaluate"]["kid_subset_size"] = 4
    assert refusal(values, tmp_path).startswith("evaluate.kid_subset_size is 4, expected at most")


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
@pytest.mark.parametrize(
    "change",
    [{"code": "none"}, {"position": False}]
    + [{"collage": mode} for mode in ("none", "pixel-fixed", "pixel-random")],
    ids=str,
)
def test_an_ablation_is_one_parameter(preset: Path, tmp_path: Path, change: dict[str, Any]):
    values = YAML(typ="safe", pure=True).load(preset)
    values["model"] |= change
    values["ablation"]["samplings"] = []  # of which one needs codes
    assert load(values, tmp_path).model.model_dump() == values["model"]


ALONE = {"variants": ["full"], "seeds": [0]}


@pytest.mark.parametrize("missing", ["code_dropout", "position_dropout"])
@pytest.mark.parametrize(
    ("section", "change", "key"),
    [
        ("sample", {"guidance_scale": 0.5}, "sample.guidance_scale = 0.5"),
        ("ablation", ALONE | {"samplings": ["guided"]}, "ablation.samplings = [guided]"),
    ],
    ids=["run", "ablation"],
)
def test_guidance_needs_a_network_trained_for_it(
    values: dict[str, Any],
    tmp_path: Path,
    missing: str,
    section: str,
    change: dict[str, Any],
    key: str,
):
    values[section] |= change
    values["train"] |= {"code_dropout": 0.1, "position_dropout": 0.5}
    load(values, tmp_path)
    values["train"][missing] = 0.0
    assert refusal(values, tmp_path).startswith(f"train.{missing} is 0, expected with {key}: above")


@pytest.mark.parametrize(
    ("section", "change", "key"),
    [
        ("sample", {"code": "training"}, "sample.code = training"),
        (
            "ablation",
            ALONE | {"samplings": ["training-codes"]},
            "ablation.samplings = [training-codes]",
        ),
    ],
    ids=["run", "ablation"],
)
def test_codes_of_training_images_need_a_table(
    values: dict[str, Any], tmp_path: Path, section: str, change: dict[str, Any], key: str
):
    values[section] |= change
    load(values, tmp_path)
    values["model"]["code"] = "encoder"
    assert refusal(values, tmp_path).startswith(f"model.code is encoder, expected with {key}: tab")


def test_samplings_need_the_networks_of_full(values: dict[str, Any], tmp_path: Path):
    values["ablation"] |= {"variants": ["no-code"], "samplings": ["shifted"], "seeds": [0]}
    message = "ablation: samplings is ['shifted'], expected none without the variant full"
    assert refusal(values, tmp_path).startswith(message)


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("data", {"location": ""}, "data.location: found '', expected text that is not blank"),
        ("data", {"location": " "}, "data.location: found ' ', expected text"),
        ("features", {"weights": ""}, "features.weights: found '', expected text"),
        ("sample", {"num_steps": 1001}, "sample.num_steps is 1001, expected at most diffusion.num"),
        ("applications", {"num_steps": 1001}, "applications.num_steps is 1001, expected at most"),
        ("latent", {"num_steps": 1001}, "latent.num_steps: found 1001, input should be less than"),
        ("applications", {"num_images": 1}, "applications.num_images: found 1, input should be"),
        (
            "applications",
            {"large_height": 16},
            "applications.large_height is 16, expected",
        ),
    ],
    ids=str,
)
def test_what_a_late_stage_would_refuse_is_refused_here(
    values: dict[str, Any], tmp_path: Path, section: str, changes: dict[str, Any], message: str
):
    values[section] |= changes
    assert refusal(values, tmp_path).startswith(message)


def test_a_pin_may_be_upper_case(values: dict[str, Any], tmp_path: Path):
    values["data"] |= {"source": "archive", "pin": "AB" * 32}
    assert load(values, tmp_path).data.pin == "ab" * 32


def test_too_few_images_are_refused(values: dict[str, Any], tmp_path: Path):
    values["train"] |= {"batch_size": 4, "micro_batch_size": None}
    values["evaluate"]["nearest_k"] = 6
    params = load(values, tmp_path)
    check_counts(params, train=7, test=2)
    for train, test, message in (
        (3, 2, "train.batch_size is 4: found 3 training images, expected 4 or more"),
        (6, 2, "evaluate.nearest_k is 6: found 6 training images, expected 7 or more"),
        (7, 1, "data.test_fraction is .*: found 1 held-out images, expected 2 or more"),
    ):
        with pytest.raises(PatchDMError, match=message):
            check_counts(params, train=train, test=test)


@pytest.mark.parametrize("number", ["2e-4", "2.0e-4", "0.0002"])
def test_numbers_as_people_write_them(values: dict[str, Any], tmp_path: Path, number: str):
    values["train"]["learning_rate"] = "NUMBER"
    text = io.StringIO()
    YAML(typ="safe", pure=True).dump(values, text)
    params = load_text(text.getvalue().replace("NUMBER", number), tmp_path)
    assert params.train.learning_rate == 0.0002


@pytest.mark.parametrize(
    "text", ["train: [1, 2", "train: {a: 1}\ntrain: {a: 2}\n", "\tbase: 1\n", "a: !!python/none x"]
)
def test_what_is_no_yaml(tmp_path: Path, text: str):
    with pytest.raises(PatchDMError) as error:
        load_text(text, tmp_path)
    assert one_line(error.value, tmp_path / "params.yaml").startswith("not YAML: ")


@pytest.mark.parametrize("text", ["", "just words", "- a\n- list\n"])
def test_what_holds_no_sections(tmp_path: Path, text: str):
    with pytest.raises(PatchDMError) as error:
        load_text(text, tmp_path)
    assert one_line(error.value, tmp_path / "params.yaml").startswith("params: found ")


def test_what_is_no_text(tmp_path: Path):
    path = tmp_path / "params.yaml"
    path.write_bytes(b"base: \xff\xfe")
    with pytest.raises(PatchDMError) as error:
        load_params(path)
    assert one_line(error.value, path).startswith("not YAML: ")


def test_what_is_not_there(tmp_path: Path):
    with pytest.raises(PatchDMError, match=r"params\.yaml: cannot be read: No such file"):
        load_params(tmp_path / "params.yaml")
    with pytest.raises(PatchDMError, match="cannot be read: Is a directory"):
        load_params(tmp_path)


def leaves(params: Params) -> Iterator[tuple[str, str]]:
    for section in Params.model_fields:
        for key in type(getattr(params, section)).model_fields:
            yield section, key


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_hash_changes_with_any_value(values: dict[str, Any], tmp_path: Path):
    params = load(values, tmp_path)
    hashes = {params_hash(params)}
    for section, key in leaves(params):
        old: Section = getattr(params, section)
        # "other" is of no key's type: model_construct skips the checks.
        new = type(old).model_construct(**(dict(old) | {key: "other"}))
        hashes.add(params_hash(params.model_copy(update={section: new})))
    assert len(hashes) == 1 + len(list(leaves(params)))


def test_hash_does_not_change_with_the_order_of_keys(values: dict[str, Any], tmp_path: Path):
    backwards = {
        section: dict(reversed(keys.items())) for section, keys in reversed(values.items())
    }
    assert params_hash(load(values, tmp_path)) == params_hash(load(backwards, tmp_path))


def test_hash_tells_sections_apart(values: dict[str, Any], tmp_path: Path):
    params = load(values, tmp_path)
    assert params_hash(params.data, params.model) != params_hash(params.data)
