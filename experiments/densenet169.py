"""002: DenseNet-169 three ways, beside the three radiologists.

    mura-tf reproduce densenet169 --data MURA-v1.1 --out runs/documents --types elbow,wrist

Cost: 3 systems of 10 epochs per study type; the document had two types, and does not say which.
Published: curves only, in which fine-tuned is ahead of modified, and that of base; the
radiologists' kappas.
"""

from dataclasses import replace

from mura_tf import Recipe
from mura_tf.papers.claims import Claim, system_ahead
from mura_tf.papers.documents import PADDED, Comparison, System

BASE = Recipe(
    backbone="densenet169",
    image_size=224,
    preprocessing="native",
    augment=(),
    head=("pool",),
    batch_size=8,
    learning_rate=1e-4,
    schedule="constant",
    monitor="val_loss",
    patience=10,  # of 10 epochs: never stops early
    max_epochs=10,
    balance="none",
)
MODIFIED = replace(BASE, image_size=320, augment=("flip", "rotation:30"))
FINE_TUNED = replace(MODIFIED, schedule="plateau:val_loss:0.1:1")
TYPES = ("study_types",)
"""What the document leaves open."""

EXPERIMENT = Comparison(
    name="densenet169",
    title="DenseNet-169 three ways (002)",
    document="002",
    systems=(
        System("base", "base", BASE, per_type=True, left_open=TYPES),
        System("modified", "modified", MODIFIED, per_type=True, left_open=TYPES),
        System("fine_tuned", "fine-tuned", FINE_TUNED, per_type=True, left_open=TYPES),
    ),
    choices=(
        "Document 002 has one model for two study types that it does not name; here each type has "
        "its own.",
        "It says that fine-tuning trains the pretrained layers too, and not whether the other two "
        "leave them frozen; here all three train all layers.",
        "It does not say how pixels are scaled; here as DenseNet was pretrained.",
        "It speaks of 2x2 average pooling, and shows DenseNet's own, which is global; here the "
        "head pools globally.",
        "It does not say what a rotation uncovers; here it is as the nearest pixel.",
        "It names no initial values of the output layer; here its kernel is Glorot normal, where "
        "Keras' own default is Glorot uniform.",
        "It does not say from which epoch a model is; here that of the least validation loss.",
        "One slide gives the modified model the fine-tuned one's schedule; here only the "
        "fine-tuned one has it.",
        PADDED,
    ),
    claims=(
        Claim(
            text="The modified model is ahead of the base model",
            source="002, Results and Analysis",
            statistic=system_ahead("modified", "base"),
            measure="view_accuracy",
        ),
        Claim(
            text="The fine-tuned model is ahead of the modified one",
            source="002, Results and Analysis",
            statistic=system_ahead("fine_tuned", "modified"),
            measure="view_accuracy",
        ),
    ),
    readers=True,
)

if __name__ == "__main__":
    from mura_tf.cli import reproduce_script

    reproduce_script(__file__)
