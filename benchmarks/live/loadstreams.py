"""How old are frames from Ultralytics' stream loader, for `benchmarks.live`?

    PYTHON benchmarks/live/loadstreams.py URL START SECONDS WORK

in an environment that has ultralytics; START as for the cameras. Prints ages (s) as JSON.
"""

import json
import os
import sys
import tempfile
import time

os.environ |= {
    "YOLO_OFFLINE": "true",
    "YOLO_AUTOINSTALL": "false",
    "YOLO_VERBOSE": "false",
    "YOLO_CONFIG_DIR": tempfile.mkdtemp(),
}


def main(url: str, start: float, seconds: float, work: float) -> None:
    from ultralytics import __version__
    from ultralytics.data.loaders import LoadStreams

    from benchmarks.live.cameras import moment_in

    ages, moments = [], []
    loader = iter(LoadStreams(url))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        _, (image,), _ = next(loader)
        moment = moment_in(image[..., ::-1])
        time.sleep(work)
        ages.append(time.monotonic() - start - moment)
        moments.append(moment)
    print(json.dumps({"version": __version__, "ages": ages, "moments": moments}))
    sys.stdout.flush()
    os._exit(0)  # its threads may wait for the network for half a minute


if __name__ == "__main__":
    main(sys.argv[1], *map(float, sys.argv[2:5]))
