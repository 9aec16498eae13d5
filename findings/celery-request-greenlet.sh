#!/usr/bin/env bash
# Where greenlet is installed, a Celery task's `self.request` belongs to the greenlet, not to the thread.
#
# Seen with celery 5.7.0 and greenlet 3.5.6 on CPython 3.11.7 and 3.12.1, with no gevent and nothing patched: celery.utils.threads keys
# its locals by greenlet.getcurrent() if greenlet can be imported, and by the thread's number otherwise. So what a task runs in
# a greenlet of its own, in its own thread, finds an empty request: retries is 0, and self.retry() raises without trying
# again, as in a task that was called directly. SQLAlchemy's async part, which runs sync code in greenlets, brings greenlet. The same
# program without greenlet sees the task's request, in a plain call.
#
# Seen on 3.12.1:
#   in the task: called_directly False
#   in a greenlet of the same thread: called_directly True
#   greenlet can't be imported, in a function that the task calls: called_directly False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet celery==5.7.0 greenlet==3.5.6
cat > "$folder/program.py" <<'PYTHON'
import sys

with_greenlet = sys.argv[1] == "with"
if with_greenlet:
    import greenlet
else:
    sys.modules["greenlet"] = None

import celery

app = celery.Celery(broker="memory://", backend="cache+memory://")
app.conf.task_always_eager = True


@app.task(bind=True)
def task(self):
    def look():
        return self.request.called_directly

    return look(), greenlet.greenlet(look).switch() if with_greenlet else look()


inside, below = task.delay().get()
if with_greenlet:
    print(f"in the task: called_directly {inside}")
    print(f"in a greenlet of the same thread: called_directly {below}")
    assert (inside, below) == (False, True)
else:
    print(f"greenlet can't be imported, in a function that the task calls: called_directly {below}")
    assert (inside, below) == (False, False)
PYTHON
"$folder/venv/bin/python" "$folder/program.py" with
"$folder/venv/bin/python" "$folder/program.py" without
