"""004: ResNet-18 frozen, with an intermediate task, for one study type alone, and routed.

    mura-tf reproduce resnet18 --data MURA-v1.1 --out runs/documents

Cost: 4 runs on all study types and 2 on each; with `--types humerus` only 2 on the humerus, as the
document has it, and nothing is routed.
Published: accuracy 0.6951 (frozen, linear), 0.7217 (frozen, two linear), 0.591 (intermediate task),
0.8892 (humerus alone).
"""

from dataclasses import replace

from mura_tf import Recipe
from mura_tf.papers.claims import Claim, system_ahead
from mura_tf.papers.documents import OF_PYTORCH, PADDED, STARTS, Comparison, System

LINEAR = Recipe(
    backbone="resnet18",
    image_size=256,
    preprocessing="native",
    augment=("flip", "autocontrast:0.5"),
    head=("pool",),
    trainable="none",
    batch_norm="torch",  # what the document trained with
    batch_size=32,
    optimizer="torch_adam",
    learning_rate=1e-3,
    schedule="constant",
    monitor="val_accuracy",
    patience=3,  # stops after the 4th epoch without a higher accuracy
    max_epochs=10,
    balance="none",
    select_on="holdout",
    holdout=0.1,
)
TWO_LINEAR = replace(LINEAR, head=("pool", "dense:512"))
STUDY_TYPES = replace(TWO_LINEAR, trainable="all", task="study_type", monitor="val_f1")
AFTER_STUDY_TYPES = replace(TWO_LINEAR, initial_part="without_output")
HUMERUS_FIRST = replace(TWO_LINEAR, learning_rate=0.01, patience=28, max_epochs=28)
HUMERUS = replace(TWO_LINEAR, max_epochs=28)
SIZE, SIZE_AND_EPOCHS = ("batch_size",), ("batch_size", "max_epochs")
"""What the document leaves open."""

EXPERIMENT = Comparison(
    name="resnet18",
    title="ResNet-18 variants (004)",
    document="004",
    systems=(
        System(
            "frozen_linear", "frozen, linear", LINEAR, published="frozen_linear", left_open=SIZE
        ),
        System(
            "frozen_two_linear",
            "frozen, 512-512-1",
            TWO_LINEAR,
            published="frozen_two_linear",
            left_open=SIZE,
        ),
        System("study_types", "step: which study type", STUDY_TYPES, left_open=SIZE_AND_EPOCHS),
        System(
            "intermediate_task",
            "then frozen, abnormality",
            AFTER_STUDY_TYPES,
            starts_from="study_types",
            published="intermediate_task",
            left_open=SIZE_AND_EPOCHS,
        ),
        System(
            "two_linear_humerus_first",
            "one type, Adam 0.01",
            HUMERUS_FIRST,
            per_type=True,
            study_types=("humerus",),
            published="two_linear_humerus_first",
            left_open=SIZE,
        ),
        System(
            "two_linear_humerus",
            "then Adam 0.001",
            HUMERUS,
            per_type=True,
            study_types=("humerus",),
            starts_from="two_linear_humerus_first",
            published="two_linear_humerus",
            left_open=SIZE_AND_EPOCHS,
        ),
        System(
            "routed",
            "study type recognised, then its model",
            HUMERUS,
            specialists="two_linear_humerus",
            recognised_by="study_types",
            beside=("frozen_two_linear",),
        ),
    ),
    choices=(
        "Document 004 names no batch size; here {batch_size}. Its 1,000 steps are 28 epochs of 32 "
        "views on the humerus.",
        "It counts six study types, and MURA has seven; here all of the data's.",
        "It does not say whether the network for one study type is frozen; here it is, as in its "
        "section 3.2, whose layers it has.",
        "It names optimizer and learning rate of the two linear layers alone; here the one linear "
        "layer and the intermediate task have them, too.",
        "It names no loss; here binary cross entropy, and categorical for study types.",
        "It does not say for how many epochs it trained the intermediate task, what follows it, "
        "and the humerus at 0.001; here for {max_epochs} at most, the humerus from the best epoch "
        "at 0.01.",
        "It does not say whether its 10 % are split off by patient; here they are, unless "
        "--split-by says otherwise.",
        "It ends by recommending to recognise the study type first and then to ask that type's "
        "model, and does not build it; where it is built here (--systems routed), the intermediate "
        "task's model recognises types, and each type has a model trained as the humerus'.",
        "It drops the last linear layer after the intermediate task, and does not say whether the "
        "other one is frozen with the network; here it is trained on.",
        *STARTS,
        OF_PYTORCH,
        "It does not say whether the batch normalization of frozen layers goes on averaging; here "
        "it keeps ImageNet's statistics, as in inference.",
        "Its stratified sampling is not described; here every view counts once an epoch.",
        "Its auto-contrast saw the image alone; here the black padding counts as its darkest part.",
        PADDED,
    ),
    claims=(
        Claim(
            text="A second linear layer helps",
            source="004, section 3.2",
            statistic=system_ahead("frozen_two_linear", "frozen_linear"),
            measure="view_accuracy",
        ),
        Claim(
            text="The intermediate task does not help",
            source="004, section 5",
            statistic=system_ahead("frozen_two_linear", "intermediate_task"),
            measure="view_accuracy",
        ),
        Claim(
            text="A model for one study type is ahead of one for all",
            source="004, section 5",
            statistic=system_ahead("two_linear_humerus", "frozen_two_linear"),
            measure="view_accuracy",
        ),
        Claim(
            text="Recognising the study type, then asking its model, is ahead of one for all",
            source="004, section 5",
            statistic=system_ahead("routed", "frozen_two_linear"),
            measure="view_accuracy",
        ),
        Claim(
            text="Being told the study type is ahead of recognising it",
            source="004, section 5, which recommends recognising it",
            statistic=system_ahead("two_linear_humerus", "routed"),
            measure="view_accuracy",
        ),
    ),
)

if __name__ == "__main__":
    from mura_tf.cli import reproduce_script

    reproduce_script(__file__)
