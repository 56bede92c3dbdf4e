"""What `patchdm fit` chooses: within the hours, monotone, of sizes that fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from patchdm.config import check_counts, load_params
from patchdm.errors import PatchDMError
from patchdm.extract.splits import held_out
from patchdm.fit.choose import UNMEASURED, Choice, choose, draft, with_batch
from patchdm.fit.follow import Case, Machine, views_of
from patchdm.fit.networks import LEAST_WINDOWS, networks_for
from patchdm.fit.write import params_text
from tests.fit.cases import case, network

HOURS = [0.25, 0.3, 0.5, 0.75, 1.0, 1.2, 1.5, 2.0, 3.0, 4.0, 5.0, 6.5, 8.0, 12.0, 24.0, 100.0]


def chosen(of: Case, name: str = "showcase") -> Choice:
    return choose(of, network(name))


@pytest.mark.parametrize("name", ["demo", "showcase"])
@pytest.mark.parametrize("photographs", [8, 60, 195, 3000])
def test_more_hours_never_give_fewer_windows_and_all_of_it_fits(name: str, photographs: int):
    windows, refused = [], 0
    for hours in HOURS:
        try:
            choice = chosen(case(name, hours=hours, photographs=photographs), name)
        except PatchDMError:
            refused += 1
            assert not windows  # what fits some hours fits more
            continue
        assert sum(choice.seconds.values()) <= hours * 3600
        assert choice.params.train.images_seen % choice.params.train.batch_size == 0
        windows.append(choice.params.train.images_seen)
    assert refused < 8
    assert windows == sorted(windows)
    assert windows[-1] > 10 * windows[0]


def test_the_demos_time_gives_about_the_demos_training():
    params = chosen(case("demo", hours=18.3 / 60), "demo").params
    assert params.train.images_seen == pytest.approx(150_000, rel=0.2)
    assert params.latent.codes_seen == pytest.approx(256_000, rel=0.2)
    assert params.sample.num_images == 224
    assert 8 <= params.data.views <= 12


def test_the_showcases_time_gives_about_its_training():
    params = chosen(case(hours=1.6)).params
    assert params.train.images_seen == pytest.approx(704_000, rel=0.2)
    assert params.latent.codes_seen == pytest.approx(3_000_000, rel=0.2)
    assert params.sample.num_images == 224
    assert params.data.views == 32


def test_most_of_the_time_is_training():
    choice = chosen(case(hours=3.0))
    assert choice.seconds["train_patchdm"] > 0.6 * sum(choice.seconds.values())


@pytest.mark.parametrize("photographs", [8, 9, 11, 60, 195, 1000, 20_000])
def test_later_stages_have_images_enough(photographs: int):
    params = chosen(case(hours=24, photographs=photographs)).params
    test = held_out(photographs, params.data.test_fraction)
    assert test >= 2
    train = (photographs - test) * params.data.views
    check_counts(params, train=train, test=test * params.data.views)
    assert params.applications.num_images <= max(2, test)


def test_fewer_photographs_have_more_views():
    views = [views_of(training, 500_000) for training in (5000, 1000, 500, 156, 48, 6)]
    assert views == sorted(views)
    assert (views[0], views[-1]) == (1, 32)
    few = chosen(case(hours=1, photographs=30)).params.data.views
    assert few >= chosen(case(hours=1, photographs=1000)).params.data.views


def test_too_few_hours_say_how_many_would_do():
    with pytest.raises(PatchDMError, match=r"--hours: found 0.01, expected (\S+) or more") as error:
        chosen(case(hours=0.01))
    needed = float(str(error.value).split("expected ")[1].split(" ")[0])
    assert chosen(case(hours=needed)).params.train.images_seen >= LEAST_WINDOWS
    with pytest.raises(PatchDMError, match="or more"):
        chosen(case(hours=0.85 * needed))


def test_too_few_photographs_are_refused():
    with pytest.raises(PatchDMError, match=r"/photographs: found 7 .*, expected 8 or more"):
        chosen(case(photographs=7))


def test_damaged_photographs_may_be_left_out():
    params = chosen(replace(case(), damaged=0.05)).params
    assert 0.05 < params.data.damaged_fraction < 0.2


@pytest.mark.parametrize("cores", [1, 2, 3, 8, 64])
def test_every_core_or_gpu_has_a_share_of_the_batch(cores: int):
    params = chosen(replace(case(), machine=Machine(cores=cores, gpus=0, half=False))).params
    assert params.train.cpu_shares(params.base.threads) == params.base.threads <= cores
    gpus = chosen(replace(case(), machine=Machine(cores=cores, gpus=3, half=True))).params
    assert gpus.machine.processes == 3
    assert gpus.train.batch_size % 3 == 0


def test_a_draft_needs_no_rates():
    params = draft(replace(case(), rates=UNMEASURED))
    assert (params.data.width, params.model.patch_size) == (256, 32)


def test_the_batch_of_samples_fits_the_memory():
    choice = chosen(case())
    assert with_batch(choice, 1e9, 1e8, 1e12) is choice
    assert with_batch(choice, 1e9, 1e8, 1.45e9).params.sample.batch_size == 5
    assert with_batch(choice, 1e9, 1e8, 0.5e9).params.sample.batch_size == 1


@pytest.mark.parametrize(
    ("size", "patch_size"),
    [
        ((64, 32), 16), ((256, 128), 32), ((512, 512), 32), ((96, 96), 32), ((128, 64), 32),
        ((64, 64), 16), ((32, 16), 8), ((16, 16), 8), ((200, 104), 8), ((48, 48), 16),
    ],
)  # fmt: skip
def test_patches_divide_the_size(size: tuple[int, int], patch_size: int):
    found = networks_for(*size, gpu=False)
    assert [each.patch_size for each in found][:1] == [patch_size]
    assert len(found) == 1


def test_a_gpu_may_have_the_papers_network():
    found = networks_for(1024, 512, gpu=True)
    assert [each.preset for each in found] == ["nature1024", "showcase"]


@pytest.mark.parametrize(
    ("size", "near"), [((100, 60), "96x64"), ((8, 64), "16x64"), ((256, 4), "256x16")]
)
def test_sizes_that_no_patch_divides_are_refused(size: tuple[int, int], near: str):
    with pytest.raises(PatchDMError, match=f"--size: found .* expected multiples of 8.* {near}$"):
        networks_for(*size, gpu=False)


def test_the_file_says_why_and_is_the_choice(tmp_path: Path):
    choice = chosen(case())
    text = params_text(choice, "Written for a test.")
    (tmp_path / "params.yaml").write_text(text)
    assert load_params(tmp_path / "params.yaml") == choice.params
    lines = text.splitlines()
    assert lines[0] == "# Written for a test."
    assert max(map(len, lines)) <= 100
    for key in ("images_seen", "views", "num_images", "codes_seen", "test_fraction"):
        at = next(n for n, line in enumerate(lines) if line.startswith(f"  {key}: "))
        assert lines[at - 1].startswith("  # "), key
