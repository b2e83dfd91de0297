"""The doctor: what is wrong with a data set, and a mended copy of it."""

from terradelta.lab.doctor.check import Checkup, check_dataset, checkup_receipt
from terradelta.lab.doctor.findings import Finding, Severity, grouped
from terradelta.lab.doctor.mend import Change, mend_dataset

__all__ = ["Change", "Checkup", "Finding", "Severity", "check_dataset", "checkup_receipt", "grouped", "mend_dataset"]
