"""Table IV: does it help to train on all of MURA before one study type?

    mura-tf reproduce table_iv --data MURA-v1.1 --out runs/paper

Cost: 35 runs of EfficientNet-B3 from ImageNet, 1 on all of MURA, 35 from its checkpoint; the same
command with --dry-run says what that is on your machine.
Published: overall kappa 0.6890 from ImageNet, 0.7205 from ImageNet + MURA.
"""

from mura_tf.papers.claims import Claim, stage_ahead, types_ahead
from mura_tf.papers.tables import Experiment

EXPERIMENT = Experiment(
    name="table_iv",
    title="Table IV: ImageNet against ImageNet + whole-data checkpoints",
    published=("table_iv",),
    backbones=("efficientnet_b3",),
    schemes=("direct", "two-stage"),
    repeats=1,
    claims=(
        Claim(
            text="ImageNet + MURA is ahead of ImageNet in 6 of 7 study types",
            source="000, Table IV",
            statistic=types_ahead("type", "imagenet"),
            above=5.5 / 7,
            what="share of the {count} study types ahead in {measure}",
        ),
        Claim(
            text="Training on all study types first improves the overall kappa",
            source="000, section VI-A",
            statistic=stage_ahead("type", "imagenet"),
            what="difference in overall {measure}",
        ),
    ),
)

if __name__ == "__main__":
    from mura_tf.cli import reproduce_script

    reproduce_script(__file__)
