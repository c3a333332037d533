"""Table VI: EfficientNet-B0 to B3, two stages, three ensembles of five each.

    mura-tf reproduce table_vi --data MURA-v1.1 --out runs/paper

Cost: per backbone 1 run on all of MURA and 7 x 5 x 3 = 105 from its checkpoint; with Table IV's
--out, 36 of B3's are Table IV's. The same command with --dry-run says what that is on your machine.
Published: overall kappa 0.689 (B0), 0.710 (B1), 0.707 (B2), 0.717 (B3).
"""

from mura_tf.experiments.table_v import ORDER
from mura_tf.papers.claims import Claim, backbones_ahead
from mura_tf.papers.tables import Experiment

EXPERIMENT = Experiment(
    name="table_vi",
    title="Table VI: EfficientNets",
    published=("table_vi",),
    backbones=("efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3"),
    claims=(
        ORDER,
        Claim(
            text="EfficientNet-B3 is ahead of EfficientNet-B0",
            source="000, Table VI",
            statistic=backbones_ahead(("efficientnet_b3",), "efficientnet_b0"),
            what="difference in overall {measure}",
        ),
    ),
)

if __name__ == "__main__":
    from mura_tf.cli import reproduce_script

    reproduce_script(__file__)
