import pytest

from mura_tf.models.specs import (
    AUGMENTATIONS,
    BATCH_NORMS,
    HEAD_LAYERS,
    OPTIMIZERS,
    PAPER_HEAD,
    Cosine,
    Plateau,
    Step,
    parse_augmentation,
    parse_augmentations,
    parse_head,
    parse_optimizer,
    parse_schedule,
    parse_trainable,
    require_batch_norm,
)


@pytest.mark.parametrize(
    ("spec", "parsed"),
    [
        ("flip", ("flip", None)),
        ("rotation:180", ("rotation", 180.0)),
        ("shift:0.1", ("shift", 0.1)),
        ("shear:45", ("shear", 45.0)),
        ("zoom:1", ("zoom", 1.0)),
        ("autocontrast:.5", ("autocontrast", 0.5)),
    ],
)
def test_parse_augmentation(spec, parsed):
    assert parse_augmentation(spec) == parsed


def test_every_augmentation_is_parsed():
    assert {parse_augmentation(f"{name}:0.1")[0] for name in AUGMENTATIONS if name != "flip"} == (
        set(AUGMENTATIONS) - {"flip"}
    )


def test_augmentations_are_named_once_each():
    assert parse_augmentations(()) == {}
    assert parse_augmentations(("zoom:0.1", "flip")) == {"zoom": 0.1, "flip": None}
    with pytest.raises(ValueError, match=r"can be named once\. Received: flip, zoom:0.1, flip\."):
        parse_augmentations(("flip", "zoom:0.1", "flip"))


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("", r"an augmentation must be one of flip, rotation, .*autocontrast, .* Received: ''"),
        ("Flip", r"an augmentation must be one of .*Received: 'Flip'"),
        (3, r"an augmentation must be one of .*Received: 3"),
        ("flip:0.5", r"the augmentation 'flip' takes no value\. Received: 'flip:0\.5'"),
        (
            "rotation",
            r"the augmentation 'rotation' needs a value above 0 and up to 180 \(degrees to either "
            r"side\), written as 'rotation:18'\. Received: 'rotation'",
        ),
        ("rotation:thirty", r"needs a value above 0 and up to 180 .*Received: 'rotation:thirty'"),
        ("rotation:181", r"up to 180 .*Received: 'rotation:181'"),
        ("shear:46", r"up to 45 .*written as 'shear:4\.5'\. Received: 'shear:46'"),
        ("shift:1.01", r"up to 1 .*written as 'shift:0\.1'\. Received: 'shift:1\.01'"),
        ("zoom:0", r"above 0 .*Received: 'zoom:0'"),
        ("zoom:-0.1", r"above 0 .*Received: 'zoom:-0\.1'"),
        ("autocontrast:nan", r"above 0 .*Received: 'autocontrast:nan'"),
    ],
)
def test_a_bad_augmentation(spec, sentence):
    with pytest.raises(ValueError, match=sentence):
        parse_augmentation(spec)


@pytest.mark.parametrize(
    ("parse", "spec", "parsed"),
    [
        (parse_trainable, "all", ("all", None)),
        (parse_trainable, "none", ("none", None)),
        (parse_trainable, "last:12", ("last", 12)),
        (parse_trainable, "blocks:8", ("blocks", 8)),
        (parse_trainable, "from:conv5_block16_1_conv", ("from", "conv5_block16_1_conv")),
        (parse_optimizer, "adam", ("adam", None)),
        (parse_optimizer, "sgd:0", ("sgd", 0.0)),
        (parse_optimizer, "torch_adam", ("torch_adam", None)),
        (parse_optimizer, "torch_sgd:.8", ("torch_sgd", 0.8)),
        (parse_schedule, "constant", None),
        (parse_schedule, "plateau:loss:0.1:1", Plateau("loss", 0.1, 1, 0.0)),
        (parse_schedule, "plateau:val_loss:.2:5:1e-7", Plateau("val_loss", 0.2, 5, 1e-7)),
        (parse_schedule, "step:0.3:3", Step(0.3, 3)),
        (parse_schedule, "cosine:0.5", Cosine(0.5)),
        (parse_optimizer, "adamw", ("adamw", None)),
    ],
)
def test_a_spec_is_split(parse, spec, parsed):
    assert parse(spec) == parsed


@pytest.mark.parametrize(
    ("parse", "spec"),
    [
        *[
            (parse_trainable, spec)
            for spec in ("", "last", "last:-1", "blocks:0", "from:", "none:1", None)
        ],
        *[(parse_optimizer, spec) for spec in ("", "adam:0.9", "sgd:", "sgd:1", "rmsprop")],
        *[(parse_optimizer, spec) for spec in ("torch_adam:0", "torch_sgd", "torch")],
        *[
            (parse_schedule, spec)
            for spec in (
                "plateau",
                "plateau:val_kappa:0.1:1",
                "plateau:loss:1:1",
                "plateau:loss:0.1:0",
                "plateau:loss:0.1:1:-1",
                "step:0.3",
                "step:3:3",
                "constant:1",
                "cosine",
                "cosine:-1",
                "cosine:nan",
            )
        ],
    ],
)
def test_a_spec_that_cannot_be(parse, spec):
    with pytest.raises(ValueError, match=rf"Received: {spec!r}\."):
        parse(spec)


def test_every_optimizer_and_batch_norm_is_known():
    for spec in OPTIMIZERS:
        assert parse_optimizer(spec.replace("MOMENTUM", "0.5"))[0] == spec.partition(":")[0]
    for name in BATCH_NORMS:
        require_batch_norm(name)


def test_every_layer_of_a_head_is_parsed():
    head = (
        "squeeze_excite:16",
        "attention:3",
        "map:16:0.5",
        "pool",
        "batch_norm",
        "dropout:0.5",
        "dense:32",
        "dense:32:relu",
        "residual:32:0.7",
        "views:64",
    )
    assert [name for name, _ in parse_head(head)] == [spec.partition(":")[0] for spec in head]
    assert parse_head(("flatten",)) == [("flatten", ())]
    assert {spec.partition(":")[0] for spec in head} | {"flatten"} == {
        spec.partition(":")[0] for spec in HEAD_LAYERS
    }
    assert parse_head(PAPER_HEAD) == [("pool", ()), ("batch_norm", ()), ("dropout", (0.5,))]


@pytest.mark.parametrize(
    ("head", "sentence"),
    [
        ((), "once, by 'pool' or by 'flatten'"),
        (("pool", "flatten"), "once, by 'pool' or by 'flatten'"),
        (("dense:32", "pool"), "'dense:32' must stand after 'pool'"),
        (("pool", "attention:3"), "'attention:3' must stand before 'pool'"),
        (("pool", "dense"), "a layer of a head must be one of pool, .*Received: 'dense'"),
        (("pool", "dense:0"), "Received: 'dense:0'"),
        (("pool", "dense:8:tanh"), "Received: 'dense:8:tanh'"),
        (("pool", "dropout:1"), "Received: 'dropout:1'"),
        (("pool:2",), "Received: 'pool:2'"),
        (("pool", "map:16:1"), "'map:16:1' must stand before 'pool'"),
        (("map:16:1", "map:8:1", "pool"), "a head can have one 'map'"),
        (("map:16", "pool"), "Received: 'map:16'"),
        (("map:16:-1", "pool"), "Received: 'map:16:-1'"),
    ],
)
def test_a_head_that_cannot_be(head, sentence):
    with pytest.raises(ValueError, match=sentence):
        parse_head(head)
