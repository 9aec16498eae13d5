//! What a visible task awaits between its steps: copies of the frames that are suspended (python/syncline/_visible.py). They
//! are made at each suspension, so the frames are found here, and not by `_logical.py`, which takes several times as long.

use crate::python::attribute::Attribute;
use crate::python::names;
use crate::python::once::Once;
use crate::python::per_process::{PerProcess, inherited};
use crate::switch::parked::LayerView;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;
use std::collections::HashMap;
use std::ffi::CStr;
use std::sync::Arc;
use syncline_core::sync::{lock, replace};

/// How many places in code are known by copies of their frames, before all are forgotten.
const MOST_KNOWN: usize = 4096;
/// How many frames of a task are copied: all count for the recursion limit whenever the task goes on.
const MOST_SHOWN: usize = 200;

/// For each place in code, by the identity of the code and the instruction: the code, and what makes a copy of a frame that
/// is suspended there.
type KnownPlaces = HashMap<(usize, i32), Arc<(Py<PyAny>, Py<PyAny>)>>;

static KNOWN: PerProcess<KnownPlaces> = PerProcess::new();

/// The frame of a coroutine or of its like, and what it awaits.
struct AwaitingKind {
    class: Py<PyType>,
    frame: Attribute,
    awaited: Attribute,
}

impl AwaitingKind {
    fn of(class: &Bound<'_, PyAny>, frame: &CStr, awaited: &CStr) -> PyResult<Option<Self>> {
        let class = class.cast::<PyType>()?;
        let attributes = Attribute::of(class, frame).zip(Attribute::of(class, awaited));
        Ok(attributes.map(|(frame, awaited)| Self { class: class.clone().unbind(), frame, awaited }))
    }
}

/// Those of coroutines, generators and async generators.
fn kinds_of_awaiting(py: Python<'_>) -> PyResult<&Vec<AwaitingKind>> {
    static KINDS: Once<Vec<AwaitingKind>> = Once::new();
    KINDS.get_or_try_init(py, || {
        let types = py.import("types")?;
        let kinds = [
            ("CoroutineType", c"cr_frame", c"cr_await"),
            ("GeneratorType", c"gi_frame", c"gi_yieldfrom"),
            ("AsyncGeneratorType", c"ag_frame", c"ag_await"),
        ];
        let made = kinds.map(|(class, frame, awaited)| AwaitingKind::of(&types.getattr(class)?, frame, awaited));
        made.into_iter().filter_map(Result::transpose).collect()
    })
}

/// Something to await: a copy of each suspended frame, the outermost one first, and below them `innermost`.
pub fn copies<'py>(layers: Vec<LayerView>, innermost: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = innermost.py();
    let mut frames = frames(py, layers)?;
    if frames.len() > MOST_SHOWN {
        drop(frames.drain(MOST_SHOWN / 2..frames.len() - MOST_SHOWN / 2));
    }
    let mut made = vec![innermost];
    for frame in frames.iter().rev() {
        match copy_of(frame, &made[made.len() - 1]) {
            Ok(copy) => made.push(copy),
            Err(error) => {
                for copy in &made[1..] {
                    // It would warn otherwise that nobody has awaited it.
                    copy.call_method0("close")?;
                }
                return Err(error);
            }
        }
    }
    Ok(made.swap_remove(made.len() - 1))
}

/// The frames of all layers, the outermost first.
fn frames<'py>(py: Python<'py>, layers: Vec<LayerView>) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let mut found = Vec::new();
    for (coroutine, greenlet, nested) in layers {
        let mut awaited = match greenlet {
            None => coroutine,
            Some(greenlet) => {
                let stack = names::stack_of_parked(py)?.call1((greenlet,))?;
                let begin = found.len();
                for frame in stack.try_iter()? {
                    found.push(frame?);
                }
                found[begin..].reverse();
                nested
            }
        }
        .map(|awaited| awaited.into_bound(py));
        while let Some(each) = awaited.take() {
            let (frame, next) = step(&each)?;
            found.extend(frame);
            awaited = next;
        }
    }
    Ok(found)
}

type FoundFrame<'py> = (Option<Bound<'py, PyAny>>, Option<Bound<'py, PyAny>>);

/// As `step` in _logical.py, which is asked where the type is none that is known.
fn step<'py>(awaited: &Bound<'py, PyAny>) -> PyResult<FoundFrame<'py>> {
    let py = awaited.py();
    let known = kinds_of_awaiting(py)?.iter().find(|kind| awaited.get_type().is(&kind.class));
    let (frame, next) = match known {
        Some(kind) => (kind.frame.get(awaited)?, kind.awaited.get(awaited)?),
        None => names::step_of(py)?.call1((awaited,))?.extract()?,
    };
    let there = |object: Bound<'py, PyAny>| (!object.is_none()).then_some(object);
    Ok(match there(frame) {
        Some(frame) => (Some(frame), there(next)),
        None if known.is_some() => (None, None),
        None => (None, there(next)),
    })
}

/// A coroutine that looks like the frame, and awaits `inner`.
fn copy_of<'py>(frame: &Bound<'py, PyAny>, inner: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = frame.py();
    // SAFETY: a frame, as all of these are; attached.
    let code = unsafe { ffi::PyFrame_GetCode(frame.as_ptr().cast()) };
    // SAFETY: a new reference, never null.
    let code = unsafe { Bound::from_owned_ptr(py, code.cast()) };
    // SAFETY: as for the code.
    let at = unsafe { ffi::PyFrame_GetLasti(frame.as_ptr().cast()) };
    let key = (code.as_ptr() as usize, at);
    let known = lock(KNOWN.get(inherited)).get(&key).map(Arc::clone);
    let known = match known {
        Some(known) => known,
        None => {
            let maker = names::new_copy(py)?.call1((frame,))?.unbind();
            remember(key, code.unbind(), maker)
        }
    };
    known.1.bind(py).call1((inner,))
}

#[cold]
fn remember(key: (usize, i32), code: Py<PyAny>, maker: Py<PyAny>) -> Arc<(Py<PyAny>, Py<PyAny>)> {
    let made = Arc::new((code, maker));
    let known = KNOWN.get(inherited);
    if lock(known).len() >= MOST_KNOWN {
        drop(replace(known, HashMap::new()));
    }
    let before = lock(known).insert(key, Arc::clone(&made));
    drop(before);
    made
}
