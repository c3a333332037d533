"""The experiments that `mura-tf reproduce` knows."""

TABLES = ["table_iii", "table_iv", "table_v", "table_vi", "tables_v_vi"]
DOCUMENTS = [
    "densenet169",
    "fourteen_classes",
    "freezing",
    "inputs",
    "resnet18",
    "unified_vs_specialised",
]
