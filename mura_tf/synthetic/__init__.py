"""A number of studies and a seed come in, a MURA-shaped folder of procedural radiographs with known
lesions goes out.

Open `write` first. `rods` make an `anatomy`, `lesions` are put into it, and `film` is what the rays
through both expose.
"""
