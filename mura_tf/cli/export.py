"""`mura-tf export`: a bundle's members as graphs for other runtimes."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mura_tf.cli.options import Model
from mura_tf.terminal import waiting


def export(
    model: Model,
    to: Annotated[
        Literal["onnx", "openvino", "litert", "saved_model"], typer.Option(help="The format.")
    ] = "onnx",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the graphs. [default: ONNX goes into the bundle itself]"),
    ] = None,
) -> None:
    """Write each member as one graph, uint8 squares in, probabilities and heatmaps out.

    A graph counts only after it was run beside Keras and said the same.
    """
    with waiting("Exporting"):
        from mura_tf.inference.export import export_bundle

        exported = export_bundle(model, to, out)
    for one in exported:
        place = one.path if out else f"{model}: members/{one.path.name}"
        print(f"{place}, differs from Keras by {one.difference:.1g} at most")
