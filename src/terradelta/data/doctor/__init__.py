"""The doctor: what is wrong with a data set, and a mended copy of it."""

from terradelta.data.doctor.check import Checkup, check_dataset, checkup_receipt
from terradelta.data.doctor.findings import Finding, Severity, grouped
from terradelta.data.doctor.mend import Change, mend_dataset

__all__ = ["Change", "Checkup", "Finding", "Severity", "check_dataset", "checkup_receipt", "grouped", "mend_dataset"]
