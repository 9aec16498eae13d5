//! Carriers: greenlets that make the steps of tasks. After a step a carrier is kept for the next task that needs one.
//!
//! The *hub* is the stack that steps the task. A carrier is *at rest* while it belongs to no task.
//!
//! Invariants:
//! 1. A carrier at rest waits in `Base::run` and holds nothing of any task, so it can serve any other.
//! 2. One that anybody else refers to is not put to rest: it stays with its task. (A greenlet that SQLAlchemy makes
//!    has the greenlet that made it for a parent.)
//! 3. A carrier belongs to the thread that made it. Dropping it there ends it: greenlet throws `GreenletExit` into it.
//! 4. A carrier's frames always lie where it began, on the thread's one C stack. While it runs, greenlet moves to the
//!    heap whatever else lies there. That must not be frames of C code that waits for us: it may have given pointers
//!    to its variables to others. So a step is made by a carrier that began a little deeper than the hub's frames
//!    (`Depth`).

use super::greenlets::{self, Api};
use crate::python::leaky::Leaky;
use crate::python::names;
use crate::python::once::intern;
use crate::python::references;
use crate::python::signals;
use crate::python::thread_end::Deferred;
use pyo3::Borrowed;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::cell::Cell;
use std::hint::black_box;
use std::mem::MaybeUninit;
use std::sync::Arc;

/// So many are kept at rest in a thread. Each has some 20 KiB.
const MOST_AT_REST: usize = 128;

/// So many bytes below its hub's frames a carrier begins. So it can serve hubs that are deeper by that much, too.
const ROOM: usize = 4 << 10;
/// A carrier that began farther below the hub's frames is not used: too little of the thread's stack is left there.
const FARTHEST: usize = 64 << 10;

/// A task's execution, as the carrier sees it that makes one of its steps.
pub trait Rider: Send + Sync {
    /// Makes a step. Returns the hub, which is to be switched to next.
    fn ride<'py>(&self, py: Python<'py>) -> PyResult<Borrowed<'static, 'py, PyAny>>;
}

/// How deep in the thread's stack a frame of ours lies: an address, as stacks grow downwards wherever greenlet runs.
#[derive(Clone, Copy)]
pub struct Depth(usize);

impl Depth {
    #[inline(always)]
    pub fn here() -> Self {
        let local = 0_u8;
        Self(black_box(&raw const local).addr())
    }
}

pub struct Carrier {
    greenlet: Py<PyAny>,
    /// The depth of the hub that began it.
    begun: Cell<Option<Depth>>,
}

thread_local! {
    /// This thread's carriers at rest, the one that has rested longest first. `end_all` ends them.
    static AT_REST: Leaky<Vec<Carrier>> = const { Leaky::new() };
    static END: Deferred = const { Deferred::new() };
    /// Whose step the carrier makes that is switched to next. It lies here, as a switch hands nothing over.
    static HANDED_OVER: Leaky<Arc<dyn Rider>> = const { Leaky::new() };
}

/// Says whose step the carrier makes that is switched to next.
pub fn hand_over(rider: Arc<dyn Rider>) {
    drop(HANDED_OVER.with(|handed_over| handed_over.replace(Some(rider))));
}

/// Undoes `hand_over`, if the switch has failed.
pub fn take_back() {
    drop(HANDED_OVER.with(Leaky::take));
}

/// What a carrier runs. `carry` in `_carriers.py`, the lowest frame of its stack, calls `run`.
#[pyclass(frozen, module = "syncline._core")]
struct Base;

impl Base {
    /// Makes one step of a task, and returns its hub. Not inlined: else the variables of this function would lie in
    /// the frame of `run`, which a carrier at rest keeps, and each switch would copy them.
    #[inline(never)]
    fn turn(py: Python<'_>) -> PyResult<Borrowed<'static, '_, PyAny>> {
        let Some(rider) = HANDED_OVER.with(Leaky::take) else {
            return Err(PyRuntimeError::new_err("a greenlet of syncline's was switched to; it runs tasks only"));
        };
        rider.ride(py)
    }

    #[inline(never)]
    fn end(py: Python<'_>, api: &Api) -> PyResult<()> {
        let error = PyErr::fetch(py);
        if api.is_exit(py, &error) { Ok(()) } else { Err(error) }
    }
}

#[pymethods]
impl Base {
    #[staticmethod]
    fn run(py: Python<'_>) -> PyResult<()> {
        let api = greenlets::loaded(py)?;
        loop {
            let hub = Self::turn(py)?;
            if !api.switch_only(&hub) {
                return Self::end(py, api);
            }
        }
    }
}

impl Carrier {
    /// A carrier that may serve a hub of this depth (by 4): the one that the task has `kept`, one at rest, a new one.
    pub fn take(py: Python<'_>, api: &Api, kept: Option<Self>, hub: Depth) -> PyResult<Self> {
        if let Some(carrier) = kept {
            if carrier.lies_beside(hub) || !carrier.is_ours_alone(py, api) {
                return Ok(carrier);
            }
            carrier.put_to_rest();
        }
        let at_rest = AT_REST.with(|at_rest| {
            at_rest.with(|kept| {
                let kept = kept.as_mut()?;
                kept.iter().rposition(|carrier| carrier.lies_beside(hub)).map(|index| kept.remove(index))
            })
        });
        if let Some(carrier) = at_rest {
            return Ok(carrier);
        }
        END.with(|end| end.ensure(py, end_all))?;
        Ok(Self { greenlet: api.make(py)?.unbind(), begun: Cell::new(None) })
    }

    pub fn greenlet<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.greenlet.bind(py)
    }

    /// Lets it make a step; returns when something switches back to the hub. By 4 a new one begins here.
    pub fn switch(&self, py: Python<'_>, api: &Api, hub: Depth) -> PyResult<()> {
        if self.begun.get().is_some() {
            return api.switch(self.greenlet(py));
        }
        let body = py.get_type::<Base>().getattr(intern!(py, "run"))?;
        self.begun.set(Some(hub));
        self.begin(api, &body)
    }

    #[inline(never)]
    fn begin(&self, api: &Api, body: &Bound<'_, PyAny>) -> PyResult<()> {
        let room = MaybeUninit::<[u8; ROOM]>::uninit();
        black_box(&raw const room);
        let started = api.start(self.greenlet.bind(body.py()), body);
        black_box(&raw const room);
        started
    }

    /// By 4: whether it began below the hub's frames, and not too far. One that has not begun can begin there.
    fn lies_beside(&self, hub: Depth) -> bool {
        self.begun.get().is_none_or(|begun| begun.0 <= hub.0 + ROOM && hub.0 <= begun.0 + FARTHEST)
    }

    /// Puts it to rest (by 1). If somebody else refers to it (by 2), it is returned, to be kept with its task.
    pub fn rest(self, py: Python<'_>, api: &Api) -> Option<Self> {
        if !self.is_ours_alone(py, api) {
            return Some(self);
        }
        if let Err(error) = api.set_context(self.greenlet.bind(py), py.None().bind(py)) {
            error.write_unraisable(py, None);
        }
        self.put_to_rest();
        None
    }

    /// If there are too many, it takes the place of the one that has rested longest.
    fn put_to_rest(self) {
        let replaced = AT_REST.with(|at_rest| {
            at_rest.with(|kept| {
                let kept = kept.get_or_insert_with(Vec::new);
                let replaced = (kept.len() == MOST_AT_REST).then(|| kept.remove(0));
                kept.push(self);
                replaced
            })
        });
        drop(replaced);
    }

    fn is_ours_alone(&self, py: Python<'_>, api: &Api) -> bool {
        api.counts_are_exact && references::count(self.greenlet.bind(py)) == 1
    }
}

/// Ends this thread's carriers that are at rest, and forgets those that are parked: the thread ends.
pub fn end_all(py: Python<'_>) {
    END.with(Deferred::forget);
    drop(AT_REST.with(Leaky::take));
    signals::through(py, || names::forget_carriers(py)?.call0());
}
