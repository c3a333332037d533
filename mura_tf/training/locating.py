"""Training a head's map beside the label, where boxes say where the lesions are."""

import keras
from keras import KerasTensor, ops

from mura_tf.data.pipeline import Labels
from mura_tf.models.graph import lesion_logits


class LocatingModel(keras.Model):
    """A model whose map learns from boxes, beside its probability that learns from labels.

    Its outputs are the probabilities and the map's logits. Labels alone, as in validation, have the
    label's loss; those of `make_dataset` with boxes have the map's beside it.

    Args:
        model: with a head that has a "map".
        weight: of the map's loss.
    """

    @classmethod
    def around(cls, model: keras.Model, weight: float) -> "LocatingModel":
        located = cls(model.input, [model.output, lesion_logits(model)], name=model.name)
        located.boxes_weight = weight
        return located

    def compute_loss(
        self,
        x: KerasTensor,
        y: Labels,
        y_pred: list[KerasTensor],
        sample_weight: KerasTensor | None = None,
        training: bool = True,
    ) -> KerasTensor:
        probabilities, logits = y_pred
        loss = super().compute_loss(x, _labels(y), probabilities, sample_weight, training)
        if isinstance(y, dict):
            loss = loss + self.boxes_weight * map_loss(y["lesions"], logits)
        return loss

    def compute_metrics(
        self,
        x: KerasTensor,
        y: Labels,
        y_pred: list[KerasTensor],
        sample_weight: KerasTensor | None = None,
    ) -> dict[str, KerasTensor]:
        return super().compute_metrics(x, _labels(y), y_pred[0], sample_weight)


def map_loss(lesions: KerasTensor, logits: KerasTensor) -> KerasTensor:
    """The focal loss of a map, over the share of it that lesions cover.

    A cell's target t is the share of its pixels that lie in a box, over the largest share in its
    view; its loss is (t - p)**2 * cross entropy(t, p), and the batch's is their sum over the sum of
    the targets, or 1 if that is more. Views whose lesions are unknown do not count.

    Args:
        lesions: float32 (B, S, S), 1 in a box, 0 outside, all -1 where that is unknown.
        logits: float32 (B, h, w, 1).

    Source: Li et al., "Generalized focal loss", 2020, equation 6 with beta = 2.
    """
    stride = lesions.shape[1] // logits.shape[1]
    shares = ops.average_pool(lesions[..., None], stride, stride)
    known = ops.cast(shares > -0.5, logits.dtype)
    targets = known * shares
    targets = targets / ops.maximum(ops.max(targets, axis=(1, 2), keepdims=True), 1e-6)
    distance = ops.square(targets - ops.sigmoid(logits))
    entropy = ops.softplus(logits) - targets * logits
    return ops.sum(known * distance * entropy) / ops.maximum(ops.sum(targets), 1.0)


def _labels(y: Labels) -> KerasTensor:
    return y["labels"] if isinstance(y, dict) else y
