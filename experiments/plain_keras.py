"""The yardstick: what a plain Keras script reaches on FracAtlas, on this project's split.

    python experiments/plain_keras.py FRACATLAS mobilenet_v2_035 WEIGHTS.h5

One model, Adam 1e-4, horizontal flip, class weights, batch 16, 10 epochs at most, the epoch with
the best validation AUROC. It borrows the split from mura_tf, and which files can be read.
"""

import argparse
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from mura_tf import load_fracatlas
from mura_tf.data.radiograph import BadRadiographError, read_radiograph

SIZE = 224


def readable(path: str) -> bool:
    try:
        read_radiograph(path)
    except BadRadiographError:
        return False
    return True


def batches(views: pd.DataFrame, training: bool) -> tf.data.Dataset:
    def decode(path: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        return tf.image.resize_with_pad(image, SIZE, SIZE), label

    data = tf.data.Dataset.from_tensor_slices((views.path.to_numpy(), views.label.to_numpy()))
    data = data.map(decode, num_parallel_calls=2).cache()
    if training:
        data = data.shuffle(len(views)).map(lambda x, y: (tf.image.random_flip_left_right(x), y))
    return data.batch(16).prefetch(2)


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("data")
parser.add_argument("backbone", choices=["mobilenet_v2_035", "efficientnet_v2_b0"])
parser.add_argument("weights")
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
arguments = parser.parse_args()

arguments.out.mkdir(parents=True, exist_ok=True)
keras.utils.set_random_seed(0)
views = load_fracatlas(arguments.data)
views = views[[readable(path) for path in views.path]]
train, valid, test = (views[views.split == split] for split in ("train", "valid", "test"))

images = keras.Input((SIZE, SIZE, 3))
if arguments.backbone == "mobilenet_v2_035":
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1)(images)
    base = keras.applications.MobileNetV2(
        alpha=0.35, include_top=False, weights=arguments.weights, input_shape=(SIZE, SIZE, 3)
    )
    features = base(scaled)
else:
    base = keras.applications.EfficientNetV2B0(
        include_top=False, weights=arguments.weights, input_shape=(SIZE, SIZE, 3)
    )
    features = base(images)
features = keras.layers.Dropout(0.5)(keras.layers.GlobalAveragePooling2D()(features))
model = keras.Model(images, keras.layers.Dense(1, "sigmoid")(features))
model.compile(
    optimizer=keras.optimizers.Adam(1e-4),
    loss="binary_crossentropy",
    metrics=[keras.metrics.AUC(name="auc")],
    jit_compile=False,  # slower on a CPU
)

started = time.perf_counter()
share = train.label.mean()
history = model.fit(
    batches(train, training=True),
    validation_data=batches(valid, training=False),
    epochs=arguments.epochs,
    class_weight={0: share, 1: 1 - share},
    callbacks=[
        keras.callbacks.EarlyStopping("val_auc", mode="max", patience=3, restore_best_weights=True)
    ],
    verbose=2,
)
probability = model.predict(batches(test, training=False), verbose=0)[:, 0]
row = {
    "system": "plain Keras script",
    "backbone": arguments.backbone,
    "n": len(test),
    "kappa": cohen_kappa_score(test.label, probability > 0.5),
    "auroc": roc_auc_score(test.label, probability),
    "accuracy": np.mean((probability > 0.5) == test.label),
    "epochs": len(history.epoch),
    "seconds": round(time.perf_counter() - started),
}
print(pd.Series(row).to_string())
out = arguments.out / f"plain_keras_{arguments.backbone}.csv"
pd.DataFrame([row]).to_csv(out, index=False)
