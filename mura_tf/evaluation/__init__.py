"""A model and views, or a predictions table, come in; study probabilities, scores and their
intervals go out.

Open `predictions` first, then `scores`. `metrics` has the formulas, `comparison` repeats and
differences, `classes` the tasks with classes, `operating_points` the calibration, and what is
normal, doubtful or abnormal. Only `predict_views` needs Keras.
"""
