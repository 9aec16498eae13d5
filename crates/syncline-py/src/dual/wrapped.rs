//! What the classes of this folder have in common: each wraps an object that the user gave, or is a subclass of the
//! user's that wraps none and has the async methods itself.

use crate::bridge::options::Bridge;
use crate::bridge::shared::{ANY_BRINGS_HOME, Shared};
use crate::coroutine::kinds::is_coroutine;
use crate::coroutine::target::Target;
use crate::python::errors;
use crate::python::once::intern;
use pyo3::PyTypeInfo;
use pyo3::exceptions::{PyNotImplementedError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// The argument of a constructor: the object to wrap, if one was given. A `None` that was given counts, and is refused.
pub struct Wrapped<'py>(pub Option<Bound<'py, PyAny>>);

impl<'py> FromPyObject<'_, 'py> for Wrapped<'py> {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        Ok(Self(Some(object.to_owned())))
    }
}

fn with_bridge<T>(object: &Bound<'_, PyAny>, use_it: impl FnOnce(&Bridge) -> PyResult<T>) -> PyResult<T> {
    let bridge = object.getattr(intern!(object.py(), "bridge"))?;
    match bridge.cast::<Bridge>() {
        Ok(bridge) => use_it(bridge.get()),
        Err(_) => {
            let (class, kind) = (errors::type_name(object), errors::type_name(&bridge));
            Err(PyTypeError::new_err(format!("{class}.bridge must be a syncline.Bridge, not {kind}")))
        }
    }
}

/// The bridge that an object or its class names, as `bridge`.
pub fn bridge_of(object: &Bound<'_, PyAny>) -> PyResult<Arc<Shared>> {
    with_bridge(object, |bridge| Ok(bridge.shared()))
}

/// What async code awaits that has the target run on the bridge's loop.
pub fn run_at_home<'py>(object: &Bound<'py, PyAny>, target: Target) -> PyResult<Bound<'py, PyAny>> {
    let py = object.py();
    with_bridge(object, |bridge| bridge.run_async(py, target)).map(|made| made.into_bound(py))
}

/// Whether async code has the object's steps made on its bridge's loop, from where it is just now.
pub fn goes_home(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    if !ANY_BRINGS_HOME.load(Relaxed) {
        return Ok(false);
    }
    bridge_of(object)?.brings_home(object.py())
}

/// What an async method gives whose steps are made there: a coroutine of `_at_home.py`, whose functions have the
/// methods' names.
pub fn at_home<'py>(
    object: &Bound<'py, PyAny>,
    method: &str,
    args: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    let module = object.py().import(intern!(object.py(), "syncline._at_home"))?;
    let args = PyTuple::new(object.py(), [object])?.as_sequence().concat(args.as_sequence())?;
    module.getattr(method.trim_matches('_'))?.call1(args.to_tuple()?)
}

/// The words of messages for an object.
pub fn describe(object: &Bound<'_, PyAny>, wrapped: Option<&Py<PyAny>>) -> String {
    let kind = errors::type_name(object);
    match wrapped {
        Some(wrapped) => {
            // That of contextlib's has no name of its own; its generator has the function's.
            let wrapped = wrapped.bind(object.py());
            let named = wrapped.getattr("gen").ok().filter(|generator| generator.hasattr("ag_code").unwrap_or(false));
            format!("the {kind} of {:?}", errors::name_of(named.as_ref().unwrap_or(wrapped)))
        }
        None => format!("the {kind}"),
    }
}

/// The text of `repr()`.
pub fn repr(object: &Bound<'_, PyAny>, wrapped: Option<&Py<PyAny>>) -> PyResult<String> {
    let class = errors::type_name(object);
    match wrapped {
        Some(wrapped) => Ok(format!("<{class} of {}>", wrapped.bind(object.py()).repr()?)),
        None => Ok(format!("<{class}>")),
    }
}

/// Whether a subclass has its own method where `T` has one.
pub fn redefines<T: PyTypeInfo>(object: &Bound<'_, PyAny>, method: &Bound<'_, PyString>) -> PyResult<bool> {
    let inherited = T::type_object(object.py()).getattr(method)?;
    Ok(!object.get_type().getattr(method)?.is(&inherited))
}

/// Checks that what a class was given to wrap is `what`, which has these methods.
pub fn check(given: &Bound<'_, PyAny>, what: &str, methods: &[&Bound<'_, PyString>]) -> PyResult<()> {
    for method in methods {
        // A class has the attributes of its objects. It is right only if its own class has the method.
        let has_it =
            given.hasattr(*method)? && (!given.is_instance_of::<PyType>() || given.get_type().hasattr(*method)?);
        if !has_it {
            let kind = errors::type_name(given);
            let advice = advice(given, &method.to_string())?;
            if is_coroutine(given) {
                given.call_method0(intern!(given.py(), "close"))?;
            }
            return Err(PyTypeError::new_err(format!("{what} is needed, not {kind}; {advice}")));
        }
    }
    Ok(())
}

/// What to do with an object that lacks `method`.
fn advice(given: &Bound<'_, PyAny>, method: &str) -> PyResult<String> {
    let name = errors::name_of(given);
    if given.is_instance_of::<PyType>() {
        return Ok(format!("call it: {name}(...)"));
    }
    let is_to_be_entered = method.ends_with("enter__") || method.ends_with("exit__");
    let is_awaited = given.hasattr("__await__")?;
    Ok(if is_to_be_entered && given.hasattr("__enter__")? {
        "it is a sync one: enter it as it is".to_owned()
    } else if is_to_be_entered && is_awaited {
        format!("give the function and its arguments: enter({name}, ...)")
    } else if is_to_be_entered && given.hasattr("__aiter__")? {
        format!("iterate over it: for item in iterate({name}(...))")
    } else if !is_to_be_entered && given.hasattr("__aenter__")? {
        errors::to_be_entered(given)
    } else if !is_to_be_entered && is_awaited {
        format!("await it, and iterate over its result: run({name}(...))")
    } else if !is_to_be_entered && given.hasattr("__iter__")? {
        "it is a sync one: iterate over it as it is".to_owned()
    } else if given.is_callable() {
        format!("call it: {name}(...)")
    } else {
        format!("it has no {method}")
    })
}

/// The keyword arguments with which a class of this folder makes the same object again, for pickling.
pub fn held<'py>(
    object: &Bound<'py, PyAny>,
    keyword: &str,
    wrapped: Option<&Py<PyAny>>,
    is_at_rest: bool,
) -> PyResult<Bound<'py, PyDict>> {
    if !is_at_rest {
        return Err(PyTypeError::new_err(format!(
            "{} is in use, or used up, and can't be pickled: what it does belongs to this process; pickle it before its \
             first use, or make it where it is used",
            describe(object, wrapped)
        )));
    }
    let held = PyDict::new(object.py());
    if let Some(wrapped) = wrapped {
        held.set_item(keyword, wrapped)?;
    }
    Ok(held)
}

/// For an object that neither wraps anything nor has a method of its own instead.
pub fn not_wrapping(object: &Bound<'_, PyAny>, what: &str, method: &str) -> PyErr {
    let class = errors::type_name(object);
    PyTypeError::new_err(format!("{class}() needs {what}, or a subclass that defines {method}"))
}

/// For an async method that a subclass which wraps nothing has not defined.
pub fn not_defined(object: &Bound<'_, PyAny>, method: &str, what: &str) -> PyErr {
    let class = errors::type_name(object);
    PyNotImplementedError::new_err(format!("{class} must define {method}, or be given {what}"))
}
