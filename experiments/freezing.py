"""000, section VI-C: a frozen base, some MBConv blocks trained, or all layers.

    mura-tf reproduce freezing --data MURA-v1.1 --out runs/documents

Cost: 3 systems of 5 members per study type; `--members 1` for a first look. --dry-run says what
that is on your machine.
Published: no number; a frozen base "did not yield a good result", some blocks made no significant
difference, and the paper trains all layers.
"""

from dataclasses import replace

from mura_tf import Recipe
from mura_tf.papers.claims import Claim, system_ahead
from mura_tf.papers.documents import Comparison, System

ALL = Recipe()
FROZEN = replace(ALL, trainable="none")
BLOCKS = replace(ALL, trainable="blocks:8")

EXPERIMENT = Comparison(
    name="freezing",
    title="A frozen base, some blocks or all layers (000, section VI-C)",
    document="000",
    systems=(
        System("frozen", "frozen base", FROZEN, per_type=True),
        System("blocks", "last 8 MBConv blocks", BLOCKS, per_type=True),
        System("all", "all layers", ALL, per_type=True),
    ),
    members=5,
    printed=False,
    choices=(
        "Section VI-C names neither backbone, start nor ensemble of what it froze; here it is "
        "Table IV's EfficientNet-B3 from ImageNet, one ensemble per study type.",
        'It says "some MBConv blocks"; here the last 8, with what follows them. Of '
        "EfficientNet-B3's 26 these are stages 6 and 7.",
        "It does not say whether frozen batch normalization keeps ImageNet's statistics; here it "
        "does, as Keras' frozen layers do.",
    ),
    claims=(
        Claim(
            text="Training all layers is ahead of a frozen base",
            source="000, section VI-C",
            statistic=system_ahead("all", "frozen"),
        ),
        Claim(
            text="Training all layers is ahead of training some MBConv blocks",
            source="000, section VI-C, which saw no significant difference",
            statistic=system_ahead("all", "blocks"),
        ),
        Claim(
            text="Training some MBConv blocks is ahead of a frozen base",
            source="000, section VI-C, which may mean this by no significant difference",
            statistic=system_ahead("blocks", "frozen"),
        ),
    ),
)

if __name__ == "__main__":
    from mura_tf.cli import reproduce_script

    reproduce_script(__file__)
