"""A tree as GRAZPEDWRI-DX is shipped, by its public description."""

import cv2
import numpy as np

HEADER = (
    "filestem,patient_id,study_number,timehash,gender,age,laterality,projection,initial_exam,"
    "ao_classification,cast,diagnosis_uncertain,osteopenia,fracture_visible,metal,pixel_spacing,"
    "device_manufacturer"
)
PATIENTS = 40
VOC = """<annotation><size><width>40</width><height>60</height><depth>1</depth></size>
<object><name>text</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>4</ymax></bndbox>
</object><object><name>fracture</name><bndbox><xmin>10</xmin><ymin>15</ymin><xmax>20</xmax>
<ymax>30</ymax></bndbox></object></annotation>"""
YOLO = "8 0.075 0.04 0.1 0.05\n3 0.375 0.375 0.25 0.25\n"


def write_grazpedwri(folder):
    """Forty patients with two views of a wrist each; of every other the second has a fracture."""
    for part in ("images_part1", "images_part2", "folder_structure/pascalvoc"):
        (folder / part).mkdir(parents=True)
    (folder / "folder_structure/yolov5/labels").mkdir(parents=True)
    rows = [HEADER]
    for patient in range(1, PATIENTS + 1):
        for projection in (1, 2):
            stem = f"{patient:04d}_1297860395_01_WRI-L{projection}_M014"
            visible = "1" if patient % 2 and projection == 2 else ""
            rows.append(
                f"{stem},{patient},1,1297860395,M,14.0,L,{projection},1,23r-M/2.1,,,,{visible},,"
                "0.144,Siemens"
            )
            rng = np.random.default_rng([patient, projection])
            levels = rng.integers(0, 65536, (60, 40), np.uint16)
            cv2.imwrite(str(folder / f"images_part{1 + patient % 2}" / f"{stem}.png"), levels)
            if visible:
                (folder / f"folder_structure/pascalvoc/{stem}.xml").write_text(VOC)
                (folder / f"folder_structure/yolov5/labels/{stem}.txt").write_text(YOLO)
    (folder / "dataset.csv").write_text("\n".join(rows) + "\n")
    return folder
