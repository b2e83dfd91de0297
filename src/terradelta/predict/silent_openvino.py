"""OpenVINO without its telemetry: `ov` is the package `openvino`.

Whoever imports OpenVINO reports that to Google Analytics, from a process that may outlive the program, with a number
that is kept in the home folder (``intel/openvino_ga_cid``), wherever the package openvino-telemetry is installed, which
OpenVINO requires. Here it is hidden while OpenVINO is imported, which then takes its own stub in its place.
"""

import sys

__all__ = ["ov"]

_TELEMETRY = "openvino_telemetry"

_before = sys.modules.get(_TELEMETRY)
sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # the import of it fails
try:
    import openvino as ov
finally:
    del sys.modules[_TELEMETRY]
    if _before is not None:
        sys.modules[_TELEMETRY] = _before
