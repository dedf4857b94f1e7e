"""Upscale a video from a checkout: `i2i upscale`, with the same options and the same results.

python tools/upscale_video.py in.mp4 out.mp4 --weights realesr-animevideov3
"""

import sys

from i2i.cli.main import main

if __name__ == "__main__":
    sys.argv.insert(1, "upscale")
    main()
