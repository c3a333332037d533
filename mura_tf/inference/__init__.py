"""Finished runs come in, one portable `.mura` file goes out; radiograph files come in, findings go
out.

Open `bundle` first: `Bundle.read` is the door. `pack` makes a bundle, with its `model_card`;
`sources` finds studies in what a person gives, `members` run the models, `findings` is what is said
of a study, `write` leaves it as tables and pictures, `dicom_out` as DICOM objects, `shards` any
number of studies, some at a time. `server` is the
reading room, with `workers` that can be killed; `export` writes a member for other runtimes.
"""
