"""Settings from files and from the command line: what they mean, and what is refused."""

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.operator_suite import instruction_set

from ladderseg_fast import _core
from ladderseg_fast.data import ImageForm
from ladderseg_fast.engine.config import setting_types
from ladderseg_fast.engine.config_tables import (
    Layer,
    build_config,
    config_text,
    format_toml,
    parse_assignments,
    read_config_file,
)
from ladderseg_fast.engine.git_revision import GitRevision
from ladderseg_fast.engine.image_memory import check_images_fit
from ladderseg_fast.engine.image_statistics import with_form


def from_file(tmp_path, text, *assignments):
    path = tmp_path / "run.toml"
    path.write_text(text, encoding="utf-8")
    return build_config([read_config_file(path), parse_assignments(assignments)])


def test_default_is_the_papers_recipe():
    config = build_config([])
    training = config.training
    assert (training.optimizer, training.learning_rate, training.power) == ("adam", 5e-4, 1.5)
    assert (training.batch, training.backbone_divisor, training.aux_weight) == (2, 5.0, 0.3)
    assert config.data.augmentation().flip
    assert config.data.augmentation().scale == (1.0, 1.0)


def test_settings_can_be_keys():
    assert {build_config([]): "default"}[build_config([])] == "default"


def test_file_and_command_line(tmp_path):
    text = """
[model]
name = "ladder_densenet169_spp"
[data]
kind = "cityscapes"
root = "some where"
size = [512, 1024]
scale = [0.5, 2]
[training]
batch = 4
learning_rate = 1
class_weights = "balanced"
clip_norm = 5.0
"""
    config = from_file(
        tmp_path, text, "training.batch=8", "data.root=elsewhere", "training.clip_norm=", "data.crop=[448,448]"
    )
    assert config.model.name == "ladder_densenet169_spp"
    assert (config.data.root, config.data.size, config.data.crop) == ("elsewhere", (512, 1024), (448, 448))
    assert config.data.scale == (0.5, 2.0)
    assert (config.training.batch, config.training.learning_rate, config.training.clip_norm) == (8, 1.0, None)
    assert config.training.class_weights == "balanced"


def test_written_and_read_again(tmp_path):
    text = """
[data]
root = "a \\"quoted\\" \\\\ back\u00e9 \\u007f\\n\U0001f600"
[training]
class_weights = [1, 0.1, 1e-30]
steps = 7
learning_rate = 3e-5
accumulate = 3
[output]
tensorboard = true
"""
    config = from_file(tmp_path, text)
    path = tmp_path / "config.toml"
    path.write_text(config_text(config, GitRevision("abc", modified=True)), encoding="utf-8")
    assert build_config([read_config_file(path)]) == config
    assert "git revision abc (modified)" in path.read_text(encoding="utf-8").splitlines()[0]
    assert "# epochs is not set" in path.read_text(encoding="utf-8")


def test_text_that_toml_cannot_hold():
    with pytest.raises(ValueError, match="not Unicode text"):
        format_toml({"data": {"root": "\udcff"}})


@pytest.mark.parametrize(
    ("low", "high", "steps", "epochs"),
    [("steps = 5", "epochs=2", None, 2), ("epochs = 5", "steps=2", 2, None), ("epochs = 5", "epochs=", None, None)],
)
def test_length_in_another_unit_replaces_the_one_below(tmp_path, low, high, steps, epochs):
    training = from_file(tmp_path, f"[training]\n{low}\n", f"training.{high}").training
    assert (training.steps, training.epochs) == (steps, epochs)


def test_resolved():
    config = build_config([parse_assignments(["training.epochs=3", "training.accumulate=2", "data.root=there"])])
    config = config.resolved(images=10)
    # 10 images, 4 a step
    assert (config.training.steps, config.training.epochs, config.output.evaluate_every) == (8, None, 3)
    assert config.data.size == (256, 512)
    assert config.data.root == str(Path("there").absolute())
    assert config.resolved(images=10) == config


def test_size_without_a_default():
    with pytest.raises(ValueError, match=r"data\.size is needed: data of kind folder has no default size"):
        build_config([parse_assignments(["data.kind=folder"])]).resolved(images=3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batch = 2", r"run\.toml: unknown section batch; there are model, data, training, output"),
        ("[trainning]\nbatch = 2", r"run\.toml: unknown section trainning; is training meant\?"),
        ("[training]\nbacth = 2", r"run\.toml: unknown key training\.bacth; is training\.batch meant\?"),
        ("[training]\nquux = 2", r"unknown key training\.quux; there are batch, accumulate, steps"),
        ("training = 3", r"run\.toml: training must be a section, \[training\]"),
        ('[training]\nbatch = "two"', r'run\.toml: training\.batch must be a whole number, got "two"'),
        ("[training]\nbatch = 2.0", r"training\.batch must be a whole number, got 2\.0"),
        ("[training]\nbatch = true", r"training\.batch must be a whole number, got true"),
        ("[training]\nlearning_rate = true", r"training\.learning_rate must be a number, got true"),
        ("[training]\nlearning_rate = nan", r"training\.learning_rate must be a positive number, got nan"),
        ("[training.batch]\nx = 1", r"training\.batch must be a whole number, got a table"),
        ("[data]\nflip = 1", r"data\.flip must be true or false, got 1"),
        ("[data]\nsize = [64]", r"data\.size must be a list of two whole numbers, got \[64\]"),
        ('[data]\nsize = [64, "x"]', r"data\.size must be a list of two whole numbers"),
        ("[data]\nroot = 2024-01-01", r"data\.root must be a string, got 2024-01-01"),
        ("[training]\nclass_weights = 3", r"training\.class_weights must be a list of numbers or a string, got 3"),
        ("[training", r"run\.toml: not a TOML file"),
    ],
)
def test_files_that_are_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        from_file(tmp_path, text)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("training.batch", "--set expects SECTION.KEY=VALUE, got 'training.batch'"),
        ("batch=2", "--set expects SECTION.KEY=VALUE, got 'batch=2'"),
        ("training.batch=0", "training.batch must be at least 1, got 0"),
        ("training.batch=2\nsteps=3", "training.batch must be a whole number"),
        ("training.steps=0", "training.steps must be at least 1, got 0"),
        ("training.optimizer=rmsprop", "training.optimizer must be one of adam, adamw, sgd, got 'rmsprop'"),
        ("training.on_nonfinite=go", "training.on_nonfinite must be one of stop, skip"),
        ("training.seed=-1", "training.seed must be at least 0"),
        ("training.seed=9223372036854775808", "training.seed must be below"),
        ("training.momentum=1.0", "training.momentum must be from 0 to below 1"),
        ("training.ema_decay=1.0", "training.ema_decay must be from 0 to below 1"),
        ("training.clip_norm=0.0", "training.clip_norm must be a positive number"),
        ("training.weight_decay=-1.0", "training.weight_decay must be a number from 0"),
        ("training.aux_weight=1.5", "training.aux_weight must be from 0 to 1"),
        ("training.class_weights=[]", "training.class_weights must be numbers from 0, not all of them 0"),
        ("training.class_weights=[0.0]", "training.class_weights must be numbers from 0, not all of them 0"),
        ("training.class_weights=equal", "training.class_weights must be one of balanced, got 'equal'"),
        (
            "training.autocast=float16",
            r'training.autocast = "float16" has no effect on a CPU with model.memory = "lean"',
        ),
        ("training.autocast=float8", "training.autocast must be one of bfloat16, float16"),
        ("model.name=vgg16", "model.name must be one of densenet121_32x, .*, got 'vgg16'"),
        ("model.memory=small", "model.memory must be lean, plain, a budget"),
        ("model.channels_last=true", 'model.channels_last needs model.memory = "plain"'),
        ("data.kind=imagenet", "data.kind must be one of camvid, "),
        ("data.coarse=true", "data.coarse is for data of kind cityscapes, not street"),
        ("data.sbd=x", "data.sbd is for data of kind voc, not street"),
        ("data.scale=[2.0, 1.0]", "data.scale must be two positive numbers, the smaller first"),
        ("data.hue=0.7", "data.hue must be 0 to 0.5"),
        ("data.workers=-1", "data.workers must be at least 0"),
        ("output.evaluate_every=0", "output.evaluate_every must be at least 1"),
        ("output.checkpoint_every=0", "output.checkpoint_every must be at least 1"),
        ("data.val_share=0.0", "data.val_share must be above 0 and below 1, got 0.0"),
        ("data.split_seed=-1", "data.split_seed must be at least 0"),
        ("data.val_share=0.2", "data.val_share is for data of kind folder, not street"),
        ("output.overlays=-1", "output.overlays must be at least 0"),
    ],
)
def test_assignments_that_are_refused(assignment, message):
    with pytest.raises(ValueError, match=message):
        build_config([parse_assignments([assignment])])


def test_bfloat16_on_the_cpu_needs_a_processor_that_multiplies_it():
    settings = parse_assignments(["training.autocast=bfloat16", "training.device=cpu"])
    if _core.has_bfloat16():
        assert build_config([settings]).training.autocast == "bfloat16"
    with instruction_set("baseline"), pytest.raises(ValueError, match="no effect on a CPU without AVX512-BF16"):
        build_config([settings])


NINES = "9" * 400


@pytest.mark.real_use
@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("training.steps=1e26", r"training\.steps must be a whole number, got 1e\+26"),
        (f"training.steps={10**26}", r"training\.steps must be below 2\^63, got a number of about 26 digits"),
        (f"training.steps={10**15}", r"training\.steps must be at most 1000000000000, got 1000000000000000"),
        (f"training.epochs={10**15}", r"training\.epochs must be at most"),
        (f"training.batch={10**9}", r"training\.batch must be at most 1000000, got 1000000000"),
        (f"training.accumulate={10**9}", r"training\.accumulate must be at most"),
        (f"training.warmup_steps={10**15}", r"training\.warmup_steps must be at most"),
        (f"output.evaluate_every={10**15}", r"output\.evaluate_every must be at most"),
        (f"output.checkpoint_every={10**15}", r"output\.checkpoint_every must be at most"),
        (f"output.overlays={10**15}", r"output\.overlays must be at most"),
        ("data.workers=1000000", r"data\.workers must be at most 1024"),
        (
            "data.size=[999999999, 999999999]",
            r"data\.size must have at most 2147483647 pixels, got 999999999x999999999",
        ),
        (f"data.size=[{10**26}, 64]", r"data\.size must be a list of two .*, got \[a number of about 26 digits, 64\]"),
        ("data.crop=[1, 9999999999]", r"data\.crop must be at most 2147483647"),
        ("data.scale=[1.0, 1e300]", r"data\.scale must leave images with at most 2147483647 pixels"),
        (f"training.learning_rate={NINES}", r"training\.learning_rate must be below 2\^63, got a number of about 400"),
        (f"training.seed={NINES}", r"training\.seed must be below 2\^63, got a number of about 400 digits"),
        (f"training.class_weights=[1, {NINES}]", r"training\.class_weights must be a list of .*, got \[1, a number"),
        (f"training.seed=0x{'f' * 4000}", r"training\.seed must be below 2\^63, got a number of about 4816 digits"),
        (f"training.seed={'9' * 5000}", r"training\.seed must be a whole number, got \"9{99}\.\.\."),
        (f"data.size={'[' * 5000}{']' * 5000}", r"data\.size must be a list of two whole numbers, got "),
        (f"model.memory={NINES}GB", r"model\.memory must be lean, plain, a budget"),
        (f'model.memory="{NINES}"', r"model\.memory must be lean, plain, a budget"),
    ],
)
def test_absurd_numbers_are_refused_by_their_key(assignment, message):
    with pytest.raises(ValueError, match=message):
        build_config([parse_assignments([assignment])])


@pytest.mark.real_use
@pytest.mark.parametrize("value", ["9" * 5000, "[" * 5000 + "]" * 5000], ids=["digits", "brackets"])
def test_absurd_values_in_a_file(tmp_path, value):
    with pytest.raises(ValueError, match=r"run\.toml: not a TOML file"):
        from_file(tmp_path, f"[training]\nseed = {value}\n")


@pytest.mark.real_use
def test_epochs_that_are_too_many_steps():
    config = build_config([parse_assignments([f"training.epochs={10**12}"])])
    with pytest.raises(ValueError, match=r"training\.epochs must be at most 1000000000000 steps, got 1000000000000 ep"):
        config.resolved(images=1000)
    # Exactly, also where floating point rounds.
    config = build_config([parse_assignments([f"training.epochs={10**11 + 1}", "training.batch=3"])])
    assert config.resolved(images=3).training.steps == 10**11 + 1


@pytest.mark.real_use
def test_images_that_no_machine_holds():
    config = build_config([parse_assignments(["training.batch=1000000", "data.size=[46340, 46340]"])])
    message = (
        r"training\.batch = 1000000 at data\.size = 46340x46340 is \d+\.\d+ GB for its images alone, and this mach"
    )
    with pytest.raises(ValueError, match=message):
        check_images_fit(config.resolved(images=3))
    check_images_fit(build_config([]).resolved(images=3))


@pytest.mark.real_use
def test_images_of_several_machines(monkeypatch):
    """A machine holds those of its own processes."""
    monkeypatch.setattr("os.sysconf", {"SC_PHYS_PAGES": 10, "SC_PAGE_SIZE": 12 * 64 * 64}.__getitem__)
    config = build_config([parse_assignments(["training.batch=16", "data.size=[64, 64]"])]).resolved(images=3)
    check_images_fit(config, processes=4, here=2)
    with pytest.raises(ValueError, match="for its images alone in 3 of 4 processes, and this machine has"):
        check_images_fit(config, processes=4, here=3)


def test_settings_that_exclude_each_other():
    both = {"training.steps": 2, "training.epochs": 2}
    with pytest.raises(ValueError, match="training.steps and training.epochs exclude each other"):
        build_config([Layer("test", both)])
    both = {"model.weights": "imagenet", "training.init_from": "run0"}
    with pytest.raises(ValueError, match="model.weights and training.init_from exclude each other"):
        build_config([Layer("test", both)])


def test_batch_norm_cannot_be_both_synchronised_and_frozen():
    with pytest.raises(ValueError, match="training.sync_bn and model.frozen_bn exclude each other"):
        build_config([Layer("test", {"training.sync_bn": True, "model.frozen_bn": True})])


def test_means_of_another_number_of_bands():
    settings = {"data.bands": 4, "data.mean": [0.5] * 3, "data.std": [0.2] * 3}
    with pytest.raises(ValueError, match="data.mean must be 4 numbers, one per band, got 3"):
        build_config([Layer("test", settings)])


def test_images_of_another_form_than_the_settings():
    data = build_config([Layer("test", {"data.bands": 4, "data.hue": 0.0, "data.saturation": 0.0})]).data
    assert data.with_form(ImageForm(4, 16)).form == ImageForm(4, 16)
    with pytest.raises(ValueError, match="data.bands is 4, but the images are 5 bands of 16 bits"):
        data.with_form(ImageForm(5, 16))


def test_splits_whose_images_differ_in_form():
    training, validation = SimpleNamespace(form=ImageForm(4, 16)), SimpleNamespace(form=ImageForm(3, 16))
    message = "the training images are 4 bands of 16 bits, those of the validation split 3 bands of 16 bits"
    with pytest.raises(ValueError, match=message):
        with_form(build_config([]), training, validation)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"run\.toml: no such configuration file"):
        read_config_file(tmp_path / "run.toml")
    with pytest.raises(OSError, match="cannot read the configuration file"):
        read_config_file(tmp_path)


def test_every_setting_is_documented():
    manual = Path(__file__).parents[2] / "docs" / "training.md"
    text = manual.read_text(encoding="utf-8")
    for section, keys in setting_types().items():
        assert f"[{section}]" in text
        for key in keys:
            assert f"`{key}`" in text, f"{section}.{key} is missing in {manual.name}"


def test_infinite_numbers():
    assert (
        format_toml({"a": {"b": math.inf, "c": [1, True], "d": None}})
        == "[a]\nb = inf\nc = [1, true]\n# d is not set\n"
    )
