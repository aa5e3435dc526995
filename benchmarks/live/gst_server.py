"""The independent RTSP server: GStreamer's, in an interpreter that has its bindings.

    /usr/bin/python3 benchmarks/live/gst_server.py PORT [h264|jpeg] [WIDTH HEIGHT FPS]

A moving ball on noise, until it is killed. It needs Debian's gir1.2-gst-rtsp-server-1.0, python3-gi
and gstreamer1.0-plugins-{base,good,ugly}.
"""

import sys

CODECS = {
    "h264": "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=25 ! rtph264pay",
    "jpeg": "jpegenc ! rtpjpegpay",
}


def main(port: str, codec: str = "h264", width: str = "320", height: str = "240", fps: str = "25"):  # type: ignore[no-untyped-def]
    """Serve rtsp://127.0.0.1:PORT/camera."""
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtspServer

    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(
        "( videotestsrc is-live=true pattern=ball ! timeoverlay ! "
        f"video/x-raw,format=I420,width={width},height={height},framerate={fps}/1 ! "
        f"{CODECS[codec]} name=pay0 pt={96 if codec == 'h264' else 26} )"
    )
    server.get_mount_points().add_factory("/camera", factory)
    server.attach(None)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main(*sys.argv[1:])
