"""000, section V-A: images zero-centred in BGR, in RGB, or as each backbone was pretrained.

    mura-tf reproduce inputs --data MURA-v1.1 --out runs/documents --backbones efficientnet_b0

Cost: per way, 5 models on all study types and 5 per type from them, as Tables V and VI train them;
`--members 1` for a first look. --dry-run says what that is on your machine.
Published: nothing; the paper zero-centres "with respect to the mean of ImageNet dataset, without
scaling", and says neither in which order of channels nor what that does.
"""

from dataclasses import replace

from mura_tf import Recipe
from mura_tf.papers.claims import Claim, system_ahead
from mura_tf.papers.documents import Comparison, System

WAYS = {
    "caffe": "zero-centred in BGR, Keras' caffe",
    "caffe_rgb": "zero-centred in RGB",
    "native": "as pretrained",
}


def _two_stages(way: str, title: str) -> tuple[System, System]:
    recipe = replace(Recipe(), preprocessing=way)
    return (
        System(f"{way}_whole", f"{title}, all study types", recipe),
        System(way, title, recipe, per_type=True, starts_from=f"{way}_whole"),
    )


EXPERIMENT = Comparison(
    name="inputs",
    title="What a backbone is given (000, section V-A)",
    document="000",
    systems=tuple(system for way, title in WAYS.items() for system in _two_stages(way, title)),
    members=5,
    printed=False,
    choices=(
        "Each member starts from a model on all study types of its own, where the paper has one "
        "for all members.",
    ),
    claims=(
        Claim(
            text="RGB order is ahead of BGR",
            source="000, section V-A, which names no order",
            statistic=system_ahead("caffe_rgb", "caffe"),
        ),
        Claim(
            text="What a backbone was pretrained with is ahead of zero-centred images",
            source="000, section V-A, which does not compare them",
            statistic=system_ahead("native", "caffe"),
        ),
    ),
)

if __name__ == "__main__":
    from mura_tf.cli import reproduce_script

    reproduce_script(__file__)
