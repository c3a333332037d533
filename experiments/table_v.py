"""Table V: the three baseline backbones, two stages, three ensembles of five each.

    mura-tf reproduce table_v --data MURA-v1.1 --out runs/paper

Cost: per backbone 1 run on all of MURA and 7 x 5 x 3 = 105 from its checkpoint; the same command
with --dry-run says what that is on your machine.
Published: overall kappa 0.680 (MobileNetV2), 0.688 (DenseNet-169), 0.712 (Xception).
"""

from mura_tf.papers.claims import Claim, backbones_ahead, order_by_top1
from mura_tf.papers.tables import Experiment

ORDER = Claim(
    text="The order of the backbones follows that of their ImageNet top-1 accuracy",
    source="000, section VI-C",
    statistic=order_by_top1,
    above=0.5,
    what="Kendall's tau of top-1 and overall {measure}",
)

EXPERIMENT = Experiment(
    name="table_v",
    title="Table V: baseline backbones",
    published=("table_v",),
    backbones=("mobilenet_v2", "densenet169", "xception"),
    claims=(
        ORDER,
        Claim(
            text="Xception is ahead of DenseNet-169",
            source="000, Table V",
            statistic=backbones_ahead(("xception",), "densenet169"),
            what="difference in overall {measure}",
        ),
    ),
)

if __name__ == "__main__":
    from mura_tf.cli import reproduce_script

    reproduce_script(__file__)
