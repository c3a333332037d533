"""Training a head that learns more than the label of each view: where lesions are, which count."""

import keras
from keras import KerasTensor, ops

from mura_tf.data.pipeline import Labels
from mura_tf.models.graph import lesion_logits, output_logits, view_weights


class JointModel(keras.Model):
    """A model whose map learns from boxes, or whose views are trained as studies, or both.

    Its outputs are those of the model, the logits of its probability where it weighs views, and the
    map's logits where boxes count. What is learned goes by what `make_dataset` has in the labels'
    place: labels alone have the label's loss; with "studies" it is that of each view's study; with
    "lesions" the map's loss stands beside it.

    Args:
        model: with a head that has a "map" or "views".
        boxes_weight: of the map's loss; 0 where boxes do not count.
    """

    @classmethod
    def around(cls, model: keras.Model, boxes_weight: float) -> "JointModel":
        outputs = list(model.outputs)
        if view_weights(model) is not None:
            outputs.append(output_logits(model))
        if boxes_weight:
            outputs.append(lesion_logits(model))
        joint = cls(model.input, outputs, name=model.name)
        joint.boxes_weight = boxes_weight
        return joint

    def compute_loss(
        self,
        x: KerasTensor,
        y: Labels,
        y_pred: list[KerasTensor],
        sample_weight: KerasTensor | None = None,
        training: bool = True,
    ) -> KerasTensor:
        probabilities = _probabilities(y, y_pred)
        loss = super().compute_loss(x, _labels(y), probabilities, sample_weight, training)
        if isinstance(y, dict) and "lesions" in y:
            loss = loss + self.boxes_weight * map_loss(y["lesions"], y_pred[-1])
        return loss

    def compute_metrics(
        self,
        x: KerasTensor,
        y: Labels,
        y_pred: list[KerasTensor],
        sample_weight: KerasTensor | None = None,
    ) -> dict[str, KerasTensor]:
        return super().compute_metrics(x, _labels(y), _probabilities(y, y_pred), sample_weight)


def study_logits(logits: KerasTensor, weights: KerasTensor, studies: KerasTensor) -> KerasTensor:
    """The logit of each view's study, of the views that are there: float (B, 1).

    That of the weighed mean of the views' probabilities, but computed from logits, so that a study
    that is wrong beyond doubt still has a gradient: on TensorFlow, where Keras' cross entropy finds
    them again; JAX and torch clip its probability at 1e-7.

    Args:
        logits, weights: of the views, (B, 1).
        studies: which study a view is of, (B,): the same number for views of one.
    """
    together = studies[:, None] == studies[None, :]
    shares = ops.where(together, ops.transpose(ops.log(weights)), -1e9)  # before their common sum
    abnormal, normal = (
        ops.logsumexp(shares - ops.transpose(ops.softplus(signed)), axis=1, keepdims=True)
        for signed in (-logits, logits)
    )
    return abnormal - normal


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


def _probabilities(y: Labels, y_pred: list[KerasTensor]) -> KerasTensor:
    if isinstance(y, dict) and "studies" in y:
        _, weights, logits, *_ = y_pred
        return keras.activations.sigmoid(study_logits(logits, weights, y["studies"]))
    return y_pred[0]


def _labels(y: Labels) -> KerasTensor:
    return y["labels"] if isinstance(y, dict) else y
