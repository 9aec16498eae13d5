//! Who makes spans of calls, as OpenTelemetry means it (python/syncline/telemetry.py), if anybody does.

use super::once::intern;
use super::per_process::PerProcess;
use super::signals;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use syncline_core::sync::{Mutex, lock, replace};

static ARE_MADE: AtomicBool = AtomicBool::new(false);
static MAKER: PerProcess<Option<Py<PyAny>>> = PerProcess::new();

fn maker() -> &'static Mutex<Option<Py<PyAny>>> {
    MAKER.get(|parents| {
        let parents = parents.and_then(|parents| parents.try_lock().ok());
        Python::try_attach(|py| parents.and_then(|maker| maker.as_ref().map(|maker| maker.clone_ref(py)))).flatten()
    })
}

pub fn are_made() -> bool {
    ARE_MADE.load(Relaxed)
}

pub fn set(new: Option<Py<PyAny>>) {
    ARE_MADE.store(new.is_some(), Relaxed);
    drop(replace(maker(), new));
}

/// A span that has begun, for a call of this thread or of its task, and who made it.
pub struct Span<'py>(Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)>);

/// A span that another thread may end.
pub struct Detached(Option<(Py<PyAny>, Py<PyAny>)>);

impl Detached {
    pub fn end<T>(&self, py: Python<'_>, result: PyResult<T>) -> PyResult<T> {
        let span = self.0.as_ref().map(|(maker, begun)| (maker.bind(py).clone(), begun.bind(py).clone()));
        Span(span).end(py, result)
    }

    /// Ends it for a call that was never made, for this reason.
    pub fn end_uncalled(&self, py: Python<'_>, reason: impl FnOnce(Python<'_>) -> PyErr) {
        if self.0.is_none() {
            return;
        }
        let reason = reason(py);
        if let Err(raised) = self.end::<()>(py, Err(reason.clone_ref(py)))
            && !raised.value(py).is(reason.value(py))
        {
            signals::keep_unless_exception(py, raised);
        }
    }
}

impl<'py> Span<'py> {
    /// Begins one for a call of that function, or whatever else stands for it.
    #[inline]
    pub fn begin(object: &Bound<'py, PyAny>, kind: &str, bridge: Option<&str>) -> PyResult<Self> {
        if are_made() { Self::make(object, kind, bridge) } else { Ok(Self(None)) }
    }

    #[cold]
    fn make(object: &Bound<'py, PyAny>, kind: &str, bridge: Option<&str>) -> PyResult<Self> {
        let py = object.py();
        let Some(maker) = lock(maker()).as_ref().map(|maker| maker.bind(py).clone()) else { return Ok(Self(None)) };
        match maker.call_method1(intern!(py, "begin"), (object, kind, bridge)) {
            Ok(begun) => Ok(Self(Some((maker, begun)))),
            Err(error) => unless_failed(py, &maker, error).map(|()| Self(None)),
        }
    }

    /// What is called here from now on is no part of the span. It goes on, and is ended elsewhere.
    pub fn leave(self, py: Python<'py>) -> PyResult<Detached> {
        let Some((maker, begun)) = self.0 else { return Ok(Detached(None)) };
        if let Err(error) = maker.call_method1(intern!(py, "leave"), (&begun,)) {
            unless_failed(py, &maker, error)?;
        }
        Ok(Detached(Some((maker.unbind(), begun.unbind()))))
    }

    /// To be ended later, in the same context.
    pub fn kept(self) -> Detached {
        Detached(self.0.map(|(maker, begun)| (maker.unbind(), begun.unbind())))
    }

    /// Ends it, and says what came of the call.
    pub fn end<T>(self, py: Python<'py>, result: PyResult<T>) -> PyResult<T> {
        let Some((maker, begun)) = self.0 else { return result };
        let error = result.as_ref().err().map(|error| error.value(py).clone());
        match maker.call_method1(intern!(py, "end"), (begun, error)) {
            Ok(_) => result,
            Err(error) => unless_failed(py, &maker, error).and(result),
        }
    }
}

/// A maker that fails must not make calls fail. What a signal handler raises in it is the call's.
fn unless_failed(py: Python<'_>, maker: &Bound<'_, PyAny>, error: PyErr) -> PyResult<()> {
    if !error.is_instance_of::<PyException>(py) {
        return Err(error);
    }
    error.write_unraisable(py, Some(maker));
    Ok(())
}
