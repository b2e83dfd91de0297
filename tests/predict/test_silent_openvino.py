"""Nothing is reported to anyone."""

import os
import subprocess
import sys

CODE = """
import sys
import terradelta.predict.openvino
import openvino.tools.ovc
print(type(openvino.tools.ovc.telemetry).__module__, "openvino_telemetry" in sys.modules)
"""


def test_openvino_reports_nothing_and_leaves_nothing_in_the_home_folder(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    environment |= {"HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["openvino.tools.ovc.telemetry_stub", "False"]
    assert list(tmp_path.iterdir()) == []
