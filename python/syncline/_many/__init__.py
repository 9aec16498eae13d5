"""Many calls: `map`, `amap` and `group`.

    methods     the public signatures, a base class of `Bridge`; the only file here that `import syncline` loads
    options     what `map` was given, checked
    source      where the arguments of the calls come from: sync iterables, or an async one
    tasks       what the engine needs of the loop that it runs on; `trio_tasks` for trio
    engine      on the loop: starts calls, keeps the limits, yields their results in batches
    results     what users iterate over: feeds the engine, and gives its batches out one by one
    progress    the bars: tqdm's, rich's, or a function of the user's
    group       `with syncline.group() as g:`

With `executor=` each call is a chunk of items that goes to a worker of the executor: `executors`. It plugs in where
`results.mapped` and `results.amapped` begin, with the checked options. It returns what these return: an iterator with
`close()`, an async generator. The shortest way is a map over chunks: an async function that submits a chunk and awaits
its future, with a limit of its own, whose results are lists of results.
"""
