"""A `Recipe` and the views table come in, a run folder goes out: the only code that changes
weights.

Open `train` first. `recipe` is everything fixed before a run, `selection` which views it uses,
`model` what it begins with, `torch_optimizers` the rules that Keras lacks, `checkpoint` what an
epoch leaves for exact resume, `image_level` what is measured view by view, `run` what is there at
the end.
"""
