"""Tables V and VI side by side: all seven backbones, and what the paper concludes from both.

    mura-tf reproduce tables_v_vi --data MURA-v1.1 --out runs/paper

Cost: none beyond `table_v` and `table_vi` if they have the same --out, else that of both.
Published: in ascending order of overall kappa MobileNetV2, DenseNet-169, EfficientNet-B0, B2, B1,
Xception, B3; B1, B2 or B3 has the highest kappa in 6 of 7 study types.
"""

from mura_tf.experiments import table_v, table_vi
from mura_tf.papers.claims import Claim, backbones_ahead, highest_in_types
from mura_tf.papers.tables import Experiment

BACKBONES = table_v.EXPERIMENT.backbones + table_vi.EXPERIMENT.backbones

EXPERIMENT = Experiment(
    name="tables_v_vi",
    title="Tables V and VI: all seven backbones",
    published=("table_v", "table_vi"),
    backbones=BACKBONES,
    claims=(
        table_v.ORDER,
        Claim(
            text="EfficientNet-B1, B2 and B3 together have the highest kappa in 6 of 7 study types",
            source="000, section VI-C",
            statistic=highest_in_types("efficientnet_b1", "efficientnet_b2", "efficientnet_b3"),
            above=5.5 / 7,
            what="share of the {count} study types with the highest {measure}",
        ),
        Claim(
            text="EfficientNets are better than DenseNet-169, whose parameters are more",
            source="000, section VI-C",
            statistic=backbones_ahead(table_vi.EXPERIMENT.backbones, "densenet169"),
            what="difference in overall {measure}, of the weakest of the four",
        ),
        Claim(
            text="EfficientNet-B3 is superior to Xception",
            source="000, section VI-C",
            statistic=backbones_ahead(("efficientnet_b3",), "xception"),
            what="difference in overall {measure}",
        ),
        Claim(
            text="MobileNetV2, whose parameters are fewest, has the lowest overall kappa",
            source="000, section VI-C",
            statistic=backbones_ahead(BACKBONES[1:], BACKBONES[0]),
            what="difference in overall {measure}, of the weakest of the other six",
        ),
    ),
)

if __name__ == "__main__":
    from mura_tf.cli import reproduce_script

    reproduce_script(__file__)
