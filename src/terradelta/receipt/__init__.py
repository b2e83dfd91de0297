"""Receipts: dated, typed records of what was made, from what and how; one schema, one writer, one reader.

Each kind is a frozen dataclass, whose fields are the keys of the file: `MapReceipt`, `EvaluationReceipt`,
`AreaReceipt`, `CheckupReceipt`. Pages and programs take these. ``schema.json`` beside this file is their JSON Schema.
"""

from terradelta.receipt.area_record import AreaReceipt
from terradelta.receipt.checkup_record import CheckupReceipt
from terradelta.receipt.codec import (
    SCHEMA,
    Receipt,
    finite,
    from_json,
    now,
    plain,
    read_receipt,
    to_json,
    write_receipt,
)
from terradelta.receipt.evaluation_record import EvaluationReceipt
from terradelta.receipt.map_record import MapReceipt

__all__ = [
    "SCHEMA",
    "AreaReceipt",
    "CheckupReceipt",
    "EvaluationReceipt",
    "MapReceipt",
    "Receipt",
    "finite",
    "from_json",
    "now",
    "plain",
    "read_receipt",
    "to_json",
    "write_receipt",
]
