"""Many calls: `map`, `amap` and `group`.

    methods     the public signatures, a base class of `Bridge`; the only file here that `import syncline` loads
    options     what `map` was given, checked
    source      where the arguments of the calls come from: sync iterables, or an async one
    tasks       what the engine needs of the loop that it runs on; `trio_tasks` for trio
    engine      on the loop: starts calls, keeps the limits, yields their results in batches
    results     what users iterate over: feeds the engine, and gives its batches out one by one
    progress    the bars: tqdm's, rich's, or a function of the user's
    group       `with syncline.group() as g:`

With `executor=` the calls are made in other processes, by an engine in each:

    executors   what users iterate over then
    chunks      in this process: what was given to the workers, and what came back
    worker      in the workers: makes the calls of a chunk, through the process's own bridge; and what travels
"""
