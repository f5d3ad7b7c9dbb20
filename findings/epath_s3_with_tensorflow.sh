#!/usr/bin/env bash
# etils 1.15.0: a path on S3 that epath reads through s3fs is no longer read once TensorFlow is
# installed.
#
# epath documents s3:// paths, and with s3fs installed it lists a bucket. One would guess that
# another package in the environment changes nothing. Seen with tensorflow-cpu 2.21.0 installed
# beside s3fs 2026.9.0, and never imported by the program: epath hands the same path to TensorFlow's
# gfile, which is built without S3, and `exists()` raises "File system scheme 's3' not implemented".
#
# The bucket is on a server that runs on this machine (moto 5.2.5). Fails if the path cannot be read
# without TensorFlow, or can be read with it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  'etils[epath]==1.15.0' fsspec==2026.9.0 s3fs==2026.9.0 'moto[server]==5.2.5'
cat > "$folder/look.py" <<'PYTHON'
import os

os.environ |= {
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
import boto3
from etils import epath
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(port=0)
server.start()
os.environ["AWS_ENDPOINT_URL"] = "http://{}:{}".format(*server.get_host_and_port())
store = boto3.client("s3")
store.create_bucket(Bucket="bucket")
store.put_object(Bucket="bucket", Key="folder/file.txt", Body=b"text")
path = epath.Path("s3://bucket/folder")
try:
    print("names:", [child.name for child in path.iterdir()] if path.exists() else None)
except Exception as error:
    print(f"{type(error).__name__}: {error}")
server.stop()
PYTHON
look() { "$folder/venv/bin/python" "$folder/look.py" 2> /dev/null; }

without=$(look)
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check tensorflow-cpu==2.21.0
with=$(look)
printf 'without TensorFlow: %s\nwith TensorFlow: %s\n' "$without" "$with"
[[ $without == *"names: ['file.txt']"* ]]
[[ $with == *"File system scheme 's3' not implemented"* ]]
