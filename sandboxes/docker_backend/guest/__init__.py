"""What runs inside the container: copied into the image, never imported by the host.

Pure standard library and Python 3.8 syntax, because any base image may carry it.
"""
