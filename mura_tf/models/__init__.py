"""A backbone's name and a recipe's small languages come in, a flat `keras.Model` with a head, by
default the paper's, goes out.

Open `build` first: `build_model` is the door; `backbones` names the extractors, `resnet` has those
that Keras lacks, `lesion_map` a head's map, `specs` the languages, `graph` the parts of a finished
model, `keras_metrics` the kappa, `backend` what Keras computes on and what that can do.
"""
