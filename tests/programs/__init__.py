"""Random programs, and what must come out of them.

    tree.py        a program as data, and its smaller versions
    place.py       where a piece of it runs, and what may be done there
    model.py       what must come out, without syncline
    make.py        random programs
    known.py       what fails today, and is left out
    base.py, sync_code.py, async_code.py, run.py
                   runs a program with syncline, and compares
    worker.py      runs programs in a process of its own, one after the other
    report.py      looks on, makes a program smaller that fails, and shows it

`python -m programs --seconds 60` in tests/ runs it by hand, `--seed` and `--number` one program again.
"""
