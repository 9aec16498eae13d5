#!/usr/bin/env bash
# viztracer stops at the first switch of greenlets.
#
# Seen with viztracer 1.1.1 and greenlet 3.5.6 on CPython 3.11.7, 3.12.1 and 3.14.10: viztracer keeps one stack of calls for each
# thread. When a greenlet switches in the middle of a function, and the one that it switches to returns from another, viztracer
# warns of an "unexpected function return", and writes nothing down from then on. The program goes on, and ends well. viztracer's
# exit status is 0.
#
# Seen on 3.12.1:
#   RuntimeWarning: VizTracer: Unexpected function return, tracing is stopped
#   done
#   calls of 'before': 1, of 'after': 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet viztracer==1.1.1 greenlet==3.5.6
cat > "$folder/program.py" <<'PYTHON'
import greenlet


def before():
    pass


def after():
    pass


def inner():
    before()
    outside.switch()  # leaves this function where it is
    after()


outside = greenlet.getcurrent()
kept = greenlet.greenlet(inner)


def first():
    kept.switch()


first()
kept.switch()
print("done")
PYTHON
cd "$folder"
"$folder/venv/bin/viztracer" --quiet -o out.json program.py > out.txt 2> err.txt
grep --only-matching "RuntimeWarning: .*" err.txt
cat out.txt
"$folder/venv/bin/python" - <<'PYTHON'
import json

with open("out.json") as file:
    names = [each["name"].split()[0] for each in json.load(file)["traceEvents"] if "program.py" in each["name"]]
print(f"calls of 'before': {names.count('before')}, of 'after': {names.count('after')}")
assert (names.count("before"), names.count("after")) == (1, 0), names
with open("err.txt") as file:
    assert "Unexpected function return, tracing is stopped" in file.read()
PYTHON
