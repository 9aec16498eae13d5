//! The texts that a recorded trace has for functions, and for what came of their calls.

use super::attribute::{code_of, name_and_module};
use super::once::intern;
use super::recording::{RETURNED, UNKNOWN, current, number, with_here};
use super::signals;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyType};
use syncline_core::sync::lock;
use syncline_core::trace_events::Text;

/// A text for what came of a call.
pub fn outcome<T>(py: Python<'_>, result: Result<T, &PyErr>) -> u32 {
    let error = match result {
        Ok(_) => return RETURNED,
        Err(error) => error,
    };
    let kind = error.get_type(py);
    known_or(kind.as_any(), kind.as_any(), || {
        let name = kind.qualname().and_then(|name| name.extract::<String>()).unwrap_or_default();
        let raised = format!("raised {name}");
        Text::new(&raised, &raised)
    })
}

/// A text for a function, or for a coroutine or another object of its kind.
pub fn function(object: &Bound<'_, PyAny>) -> u32 {
    if let Some((name, module)) = name_and_module(object) {
        return named(&name, &module);
    }
    let py = object.py();
    let (qualname, module) = (intern!(py, "__qualname__"), intern!(py, "__module__"));
    if is_type_of_c(object) {
        // It makes both names anew each time that it is asked. Nothing else has its text by it and its own type.
        return known_or(object, object.get_type().as_any(), || match of(object, qualname).zip(of(object, module)) {
            Some((name, module)) => text(&name, &module),
            None => Text::new("?", "?"),
        });
    }
    let name = match of(object, qualname) {
        Some(name) => interned(name),
        None => match of(object, intern!(py, "func")) {
            // A partial.
            Some(inner) => return function(&inner),
            None => return function(object.get_type().as_any()),
        },
    };
    // The code first: to ask for what an object does not have takes longer than all else here.
    let module = code_of(object).or_else(|| of(object, module));
    let module = module.or_else(|| of(object, intern!(py, "cr_code"))).or_else(|| of(object, intern!(py, "ag_code")));
    named(&name, &module.unwrap_or_else(|| object.get_type().into_any()))
}

/// Whether it is a type that is written in C, whose name can't be changed.
fn is_type_of_c(object: &Bound<'_, PyAny>) -> bool {
    let Ok(class) = object.cast::<PyType>() else { return false };
    // SAFETY: a type.
    unsafe { ffi::PyType_HasFeature(class.as_type_ptr(), ffi::Py_TPFLAGS_HEAPTYPE) == 0 }
}

fn named(name: &Bound<'_, PyAny>, module: &Bound<'_, PyAny>) -> u32 {
    known_or(module, name, || text(name, module))
}

/// `module` is that, by its name, or the code in it.
fn text(name: &Bound<'_, PyAny>, module: &Bound<'_, PyAny>) -> Text {
    let short = name.str().map_or_else(|_| "?".to_owned(), |name| name.to_string_lossy().into_owned());
    let prefix = if module.is_instance_of::<PyString>() {
        module.extract::<String>().ok()
    } else {
        module.getattr(intern!(name.py(), "co_filename")).and_then(|file| file.extract()).ok()
    };
    Text::new(&short, &prefix.map_or_else(|| short.clone(), |prefix| format!("{prefix}.{short}")))
}

/// The one string of this text that stays. What is written in C makes another one each time that it is asked for its name.
fn interned(name: Bound<'_, PyAny>) -> Bound<'_, PyAny> {
    if !name.is_exact_instance_of::<PyString>() {
        return name;
    }
    let py = name.py();
    let mut owned = name.into_ptr();
    // SAFETY: attached, and a string; the reference to it is exchanged for one to the interned string.
    unsafe { ffi::PyUnicode_InternInPlace(&raw mut owned) };
    // SAFETY: an own reference.
    unsafe { Bound::from_owned_ptr(py, owned) }
}

fn of<'py>(object: &Bound<'py, PyAny>, attribute: &Bound<'py, PyString>) -> Option<Bound<'py, PyAny>> {
    object.getattr_opt(attribute).unwrap_or_else(|error| {
        // An object may answer in Python, where a signal handler may raise.
        signals::keep_unless_exception(object.py(), error);
        None
    })
}

/// The text that the trace has for these two objects, or a new one.
fn known_or(first: &Bound<'_, PyAny>, second: &Bound<'_, PyAny>, make: impl FnOnce() -> Text) -> u32 {
    let key = (first.as_ptr() as usize, second.as_ptr() as usize);
    if let Some(Some(known)) = with_here(number(), |here| here.known(key)) {
        return known;
    }
    let Some(current) = current() else { return UNKNOWN };
    let text = make();
    if current.number != number() {
        // The trace has ended while Python code ran: nobody would let go of objects that it is given now.
        return UNKNOWN;
    }
    let text = current.trace.text(text);
    let mut names = lock(&current.names);
    names.known.insert(key, text);
    names.kept.push((first.clone().unbind(), second.clone().unbind()));
    text
}
