//! How much of Python's stack is left below the code that runs now.
//!
//! On Python 3.11 C's calls count for the recursion limit as Python's frames do, so that a loop which turns just above the
//! limit fails in the middle of asyncio's own code: after it has taken a task's step off its queue, or where a future that
//! is done asks for the step of the task that waits for it. Nothing makes that step then, and whoever waits for the task
//! waits for ever. So nothing is begun on a loop that has no room to turn.

use crate::python::once::Once;
use crate::python::version;
use pyo3::exceptions::PyRecursionError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// So many calls a loop makes below the code that turns it, at most, until a task's step has been made or a future's callbacks
/// are scheduled: with 14 asyncio's loop loses no step, in its debug mode with 20.
const OF_A_LOOP: usize = 32;

/// Raises RecursionError if a loop could not turn here.
pub fn check_for_loop(py: Python<'_>) -> PyResult<()> {
    if version::minor() >= 12 {
        return Ok(());
    }
    let mut entered = 0;
    let checked = loop {
        if entered == OF_A_LOOP {
            break Ok(());
        }
        // SAFETY: attached; the text lives for ever. What succeeds is left again below.
        if unsafe { ffi::Py_EnterRecursiveCall(c" by the turns of an event loop".as_ptr()) } != 0 {
            break Err(PyErr::fetch(py));
        }
        entered += 1;
    };
    for _ in 0..entered {
        // SAFETY: it was entered above.
        unsafe { ffi::Py_LeaveRecursiveCall() };
    }
    checked
}

/// Whether this RecursionError, out of a callback of a loop that this thread turns, is so as the loop itself has no room here; not
/// as the callback was without end.
pub fn is_loops(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyRecursionError>(py) && !is_there(py).unwrap_or(false)
}

/// Whether that many frames of Python's have room here.
fn is_there(py: Python<'_>) -> PyResult<bool> {
    static PROBE: Once<Py<PyAny>> = Once::new();
    let probe = PROBE.get_or_try_init(py, || {
        let code = c"lambda probe, left: left == 0 or probe(probe, left - 1)";
        Ok(py.eval(code, Some(&PyDict::new(py)), None)?.unbind())
    })?;
    probe.call1(py, (probe, OF_A_LOOP))?.is_truthy(py)
}
