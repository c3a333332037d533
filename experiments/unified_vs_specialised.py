"""001: one model for all study types, or one for each? CNNs from scratch, ResNets, DenseNet-121.

    mura-tf reproduce unified_vs_specialised --data MURA-v1.1 --out runs/documents

Cost: 22 systems, 82 runs of at most 20 epochs; with --systems only some. --dry-run says what that
is on your machine. `--split-by image` is the document's split, which leaks.
Published: accuracy on MURA's validation set 0.785 (unified ResNet-18), 0.783 (DenseNet-121), 0.522
(from scratch); specialised 0.672 to 0.847, from scratch 0.464 to 0.684.
"""

from dataclasses import replace

from mura_tf import Recipe
from mura_tf.papers.claims import Claim, system_ahead
from mura_tf.papers.documents import OF_PYTORCH, PADDED, STARTS, Comparison, System

SCRATCH = Recipe(
    backbone="cnn_2",
    weights=None,
    preprocessing="native",
    augment=(),
    head=("flatten", "dense:128:relu"),
    batch_norm="torch",  # what the document trained with, as its printed layers show
    batch_size=32,
    optimizer="torch_adam",
    learning_rate=1e-3,
    schedule="plateau:val_loss:0.1:1",
    monitor="val_loss",
    patience=10,  # of 10 epochs: never stops early
    max_epochs=10,
    balance="none",
    select_on="holdout",
    holdout=0.2,
)
FIRST = replace(SCRATCH, optimizer="torch_sgd:0", schedule="constant")
RESNET = Recipe(
    backbone="resnet50_v1_5",  # torchvision's
    preprocessing="native",
    augment=(),
    head=("pool", "dropout:0.5", "dense:256", "dropout:0.5", "dense:128", "dense:32"),
    batch_norm="torch",
    batch_size=32,
    optimizer="torch_sgd:0.8",
    learning_rate=1e-3,
    weight_decay=1e-3,
    schedule="constant",
    monitor="val_loss",
    patience=3,  # stops after the 4th epoch without a lower loss
    max_epochs=20,
    balance="none",
    select_on="holdout",
    holdout=0.2,
)
DENSENET = replace(
    RESNET,
    backbone="densenet121",
    head=("pool", "dense:512:relu", "dropout:0.5"),
    optimizer="torch_sgd:0.9",
    learning_rate=1e-4,
    weight_decay=1e-4,
    schedule="step:0.3:3",
    patience=1,  # stops after the 2nd
)
ADAM = replace(DENSENET, optimizer="torch_adam", weight_decay=0.0)
ADAMW = replace(DENSENET, optimizer="adam")
"""Keras' weight decay is AdamW's: it is taken off the weights, and not part of the gradient."""
OPEN = ("image_size",)
OPEN_FROM_SCRATCH = (*OPEN, "batch_size", "learning_rate", "max_epochs", "patience")
"""What the document leaves open."""


def _both(
    name: str, title: str, recipe: Recipe, published: str | None = None
) -> tuple[System, System]:
    left_open = OPEN if recipe.weights else OPEN_FROM_SCRATCH
    unified = System(
        f"{name}_unified", f"{title}, unified", recipe, published=published, left_open=left_open
    )
    name, title = f"{name}_specialised", f"{title}, specialised"
    return unified, replace(unified, name=name, title=title, per_type=True)


def _ahead(name: str, other: str, text: str, source: str, only: str | None = None) -> Claim:
    return Claim(
        text=text,
        source=source,
        statistic=system_ahead(name, other, only),
        measure="view_accuracy",
    )


def _specialised_ahead(name: str, title: str) -> Claim:
    return _ahead(
        f"{name}_specialised",
        f"{name}_unified",
        f"{title}: one model per study type is ahead of one for all",
        "001, the document's question",
    )


def _transfer_ahead(name: str, title: str) -> Claim:
    return _ahead(
        "densenet121_unified",
        f"{name}_unified",
        f"Unified: transfer learning is ahead of training from scratch, {title}",
        "001, Conclusion",
    )


EXPERIMENT = Comparison(
    name="unified_vs_specialised",
    title="Unified against specialised models (001)",
    document="001",
    systems=(
        System(
            "cnn_first",
            "the first CNN, specialised",
            FIRST,
            per_type=True,
            published="from_scratch_cnn_first",
            left_open=OPEN_FROM_SCRATCH,
        ),
        System(
            "cnn_first_together",
            "the first CNN, one for two study types",
            FIRST,
            together=True,
            study_types=("finger", "wrist"),
            published="from_scratch_cnn_first",
            left_open=OPEN_FROM_SCRATCH,
        ),
        *_both("cnn_2", "2 convolutions", SCRATCH, "from_scratch_cnn_2_conv"),
        *_both("cnn_2_bn", "2 convolutions with batch norm", replace(SCRATCH, backbone="cnn_2_bn")),
        *_both(
            "cnn_4",
            "4 convolutions",
            replace(SCRATCH, backbone="cnn_4", head=(*SCRATCH.head, "dropout:0.5")),
            "from_scratch_cnn_4_conv",
        ),
        *_both(
            "cnn_4_bn",
            "4 convolutions with batch norm",
            replace(SCRATCH, backbone="cnn_4_bn", head=(*SCRATCH.head, "dropout:0.5")),
        ),
        *_both("cnn_13", "15 layers", replace(SCRATCH, backbone="cnn_13"), "from_scratch_cnn"),
        *_both("cnn_13_bn", "15 layers with batch norm", replace(SCRATCH, backbone="cnn_13_bn")),
        *_both("resnet18", "ResNet-18", replace(RESNET, backbone="resnet18"), "resnet18"),
        *_both("resnet50", "ResNet-50", RESNET, "resnet50"),
        *_both("densenet121", "DenseNet-121", DENSENET, "densenet121"),
        System("densenet121_adam", "DenseNet-121 with Adam, unified", ADAM, left_open=OPEN),
        System("densenet121_adamw", "DenseNet-121 with AdamW, unified", ADAMW, left_open=OPEN),
    ),
    choices=(
        "Document 001 names neither filters, units, batch size, dropout, learning rate nor epochs "
        "of its CNNs: here 32 to 512 filters, one hidden dense layer of 128, batches of "
        "{batch_size}, dropout of 0.5 and Adam {learning_rate}. It adjusts their learning rate "
        "after the test loss of the epoch before; here it becomes a tenth each time the holdout's "
        "loss is not lower by 0.0001, so that nothing is tuned on the test images. Its 15 layers "
        "are taken for VGG-16's 13 convolutions and 2 dense layers.",
        "Its first CNN, before Adam and a schedule, is not described; here it is the one of 2 "
        "convolutions, with plain SGD at {learning_rate}.",
        "It names no settings of its DenseNet with Adam and AdamW but the optimizer; here all "
        "others are those of SGD, without weight decay for Adam.",
        "It does not say whether pretrained layers are trained; here all are.",
        *STARTS,
        "It does not say how pixels are scaled; here as each backbone was pretrained, and for the "
        "CNNs as for Keras' torch mode.",
        "Its Appendix A shows the unified CNN up to epoch 10, on a volatile validation loss; here "
        "all CNNs train for {max_epochs} epochs at most, and {patience} without a lower loss are "
        "tolerated.",
        "It splits off a fifth of the training images by image; here by patient, unless "
        "--split-by says otherwise.",
        "It applies transformations that it does not name, and its augmented totals are MURA's "
        "images; here nothing is augmented.",
        "It does not say which validation measure stops a run; here the loss.",
        "It resizes to a size that it does not name; here {image_size} pixels.",
        OF_PYTORCH,
        "It trains on logits; here the loss is of the sigmoid's output, which Keras computes from "
        "the logits on TensorFlow, and from the clipped probability on JAX and PyTorch.",
        'Its table has one column "ResNet"; here ResNet-18 and ResNet-50 have a row each.',
        PADDED,
    ),
    quoted={
        "original_paper": "MURA's own model, as 001 quotes it (kappas, by 000)",
        "resnet": "ResNet-18 or ResNet-50",
    },
    claims=(
        _specialised_ahead("densenet121", "DenseNet-121"),
        _specialised_ahead("resnet50", "ResNet-50"),
        _specialised_ahead("resnet18", "ResNet-18"),
        _specialised_ahead("cnn_4_bn", "4 convolutions with batch norm"),
        _specialised_ahead("cnn_13_bn", "15 layers with batch norm"),
        _ahead(
            "cnn_2_specialised",
            "cnn_first",
            "2 convolutions: Adam with a schedule is ahead of plain SGD",
            "001, Attempted Solutions and Optimizations",
        ),
        _ahead(
            "cnn_4_specialised",
            "cnn_2_specialised",
            "Specialised: 4 convolutions are ahead of 2",
            "001, Convolutional Neural Networks, Issues, of the wrist",
            only="wrist",
        ),
        _ahead(
            "resnet18_specialised",
            "resnet50_specialised",
            "Specialised: ResNet-18 is ahead of ResNet-50",
            "001, Transfer learning, interesting phenomenon, of the wrist",
            only="wrist",
        ),
        _ahead(
            "densenet121_unified",
            "densenet121_adam",
            "Unified DenseNet-121: SGD is ahead of Adam",
            "001, Transfer learning, 2. DenseNet",
        ),
        _ahead(
            "densenet121_unified",
            "densenet121_adamw",
            "Unified DenseNet-121: SGD is ahead of AdamW",
            "001, Transfer learning, 2. DenseNet",
        ),
        _ahead(
            "resnet18_unified",
            "resnet50_unified",
            "Unified: ResNet-18 is ahead of ResNet-50",
            "001, Transfer learning, interesting phenomenon",
        ),
        _transfer_ahead("cnn_13", "15 layers"),
        _transfer_ahead("cnn_13_bn", "15 with batch norm"),
    ),
)

if __name__ == "__main__":
    from mura_tf.cli import reproduce_script

    reproduce_script(__file__)
