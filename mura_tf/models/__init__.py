"""A backbone's name and a recipe's small languages come in, a flat `keras.Model` with the paper's
head goes out.

Open `build` first: `build_model` is the door; `backbones` names the extractors, `resnet` has those
that Keras lacks, `specs` the languages, `graph` the parts of a finished model, `keras_metrics` the
kappa.
"""
