"""Commands see the same clips as the library: helpers of tests/video are at hand here, too."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "video"))
