"""A `Recipe` and the views table come in, a run folder goes out: the only code that trains.

Open `train` first; it weighs the loss by study type. `recipe` is everything fixed before a run,
`selection` which views it uses, `model` what it begins with, `optimizer` how its weights move,
`torch_optimizers` the rules that Keras lacks, `joint` the loss of maps and of weighed views,
`averaging` what is validated of averaged weights, `checkpoint` what an epoch leaves for exact
resume, `image_level` what is measured view by view, `facts` the versions and the device, `failures`
what no second try saves, `run` what is there at the end, and what of it is damaged, `systems` which
runs are one and which only stand side by side.
"""
