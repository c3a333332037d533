"""Table III: number of parameters of the seven backbones with the paper's head.

    mura-tf reproduce table_iii        or  python experiments/table_iii.py

Cost: builds seven models, no data, under a minute.
Published: 2,264,385 (MobileNetV2) to 20,871,721 (Xception).
"""

from mura_tf.papers.parameters import ParameterTable

EXPERIMENT = ParameterTable(
    name="table_iii",
    title="Table III: parameters with the paper's head",
    backbones=(
        "mobilenet_v2",
        "densenet169",
        "efficientnet_b0",
        "efficientnet_b1",
        "xception",
        "efficientnet_b2",
        "efficientnet_b3",
    ),
)

if __name__ == "__main__":
    from mura_tf.cli import reproduce_script

    reproduce_script(__file__)
